//! An alert as it is sent: JSON for programs, a Slack message, an e-mail. Pure text; who sends it signs it.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::super::refusal::InUnit;
use super::super::{Action, Metric};
use super::Alert;
use crate::window::Window;

/// Version of the JSON for programs. Fields are added without a new one, and never change or go away.
pub const VERSION: u32 = 1;

/// An e-mail: one line, and plain text with lines of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mail {
    /// The subject.
    pub subject: String,
    /// The text.
    pub text: String,
}

/// The unit of amounts, for programs.
const fn unit(metric: &Metric) -> &'static str {
    match metric {
        Metric::Money => "micros",
        Metric::ConcurrentGpus => "gpu-hundredths",
        Metric::GpuTime(_) | Metric::NormalisedGpuTime => "gpu-milliseconds",
    }
}

fn counted(metric: &Metric) -> String {
    match metric {
        Metric::Money => "money".to_owned(),
        Metric::ConcurrentGpus => "GPUs in use at once".to_owned(),
        Metric::GpuTime(class) => format!("time of {class}"),
        Metric::NormalisedGpuTime => "normalised GPU time".to_owned(),
    }
}

const fn over(window: Window) -> &'static str {
    match window {
        Window::Instant => "now",
        Window::Month => "this month",
        Window::Quarter => "this quarter",
        Window::Grant { .. } => "of a grant",
    }
}

const fn follows(action: Action) -> &'static str {
    match action {
        Action::Warn => "nothing is refused",
        Action::DenyNew => "no new job starts",
        Action::Drain => "no new job starts, and running ones are asked to save their work and stop",
        Action::Stop => "no new job starts, and running ones are stopped",
    }
}

/// The whole in one line: `Group vision has filled 96 % of its limit on money this month`.
#[must_use]
pub fn headline(alert: &Alert) -> String {
    let filled = alert.filled_percent().map_or("more than all".to_owned(), |percent| format!("{percent} %"));
    let place = match alert.limit.scope.to_string().as_str() {
        "everywhere" => String::new(),
        scope => format!(" ({scope})"),
    };
    let (what, when) = (counted(&alert.limit.metric), over(alert.limit.window));
    format!("Group {} has filled {filled} of its limit on {what}{place} {when}", alert.limit.group)
}

/// What there is to know beside the headline, each with its name.
fn facts(alert: &Alert) -> Vec<(&'static str, String)> {
    let shown = |amount| InUnit(&alert.limit.metric, amount).to_string();
    let renewed = match alert.limit.window {
        Window::Instant => None,
        Window::Month | Window::Quarter => Some(("Counts anew from", alert.until.to_string())),
        Window::Grant { .. } => Some(("Ends", alert.until.to_string())),
    };
    let when = if alert.passed { "It is passed" } else { "When it is full" };
    // Of what counts at each instant, all that is held is in use.
    let held = (alert.limit.window != Window::Instant).then(|| ("Held by running jobs", shown(alert.held)));
    let amounts = [
        ("Threshold", format!("{} %", alert.percent)),
        ("Limit", shown(alert.nominal)),
        ("Used", shown(alert.used)),
    ];
    let rest = [("Left", shown(alert.left)), (when, follows(alert.action).to_owned())];
    amounts.into_iter().chain(held).chain(rest).chain(renewed).collect()
}

/// The body for programs. Amounts are whole numbers in `unit`; instants are RFC 3339.
#[must_use]
pub fn webhook(alert: &Alert) -> Value {
    let id = &alert.limit;
    json!({
        "version": VERSION,
        "kind": "limit-threshold",
        "key": alert.key,
        "group": id.group,
        "above": alert.above,
        "metric": id.metric,
        "scope": id.scope,
        "window": id.window,
        "until": alert.until.to_string(),
        "threshold_percent": alert.percent,
        "unit": unit(&id.metric),
        "limit": alert.nominal,
        "used": alert.used,
        "held": alert.held,
        "left": alert.left,
        "action": alert.action,
        "passed": alert.passed,
        "at": alert.at.to_string(),
        "text": headline(alert),
    })
}

/// The body for an incoming webhook of Slack, or of what takes the same.
#[must_use]
pub fn slack(alert: &Alert) -> Value {
    let text = headline(alert);
    let field = |(name, value): (&str, String)| json!({ "type": "mrkdwn", "text": format!("*{}*\n{}", name, escaped(&value)) });
    let fields: Vec<Value> = facts(alert).into_iter().map(field).collect();
    let heading = format!("*{}*", escaped(&text));
    json!({
        "text": escaped(&text),
        "blocks": [
            { "type": "section", "text": { "type": "mrkdwn", "text": heading } },
            { "type": "section", "fields": fields },
            { "type": "context", "elements": [{ "type": "plain_text", "text": alert.key }] },
        ],
    })
}

/// What Slack takes for the begin of something else.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// The e-mail.
#[must_use]
pub fn mail(alert: &Alert) -> Mail {
    let headline = headline(alert);
    let mut text = format!("{headline}.\n\n");
    for (name, value) in facts(alert) {
        // Writing to a text cannot fail.
        writeln!(text, "{name}: {value}").ok();
    }
    if !alert.above.is_empty() {
        let above: Vec<&str> = alert.above.iter().map(spillway_types::GroupName::as_str).collect();
        writeln!(text, "Groups above: {}", above.join(", ")).ok();
    }
    write!(text, "\nTold once for this threshold and window: {}\n", alert.key).ok();
    Mail { subject: format!("Spillway: {headline}"), text }
}

#[cfg(test)]
mod tests {
    use super::super::super::LimitId;
    use super::*;
    use spillway_types::UnixMs;

    fn alert(metric: &str, scope: &str, window: Window) -> Alert {
        let limit = LimitId {
            group: "vision".parse().unwrap(),
            metric: metric.parse().unwrap(),
            scope: scope.parse().unwrap(),
            window,
        };
        Alert {
            key: "limit/vision/money/cloud/month:1767225600000/80".to_owned(),
            limit,
            above: vec!["lab".parse().unwrap()],
            percent: 80,
            nominal: 100_000_000,
            used: 62_500_000,
            held: 20_000_000,
            left: 17_500_000,
            action: Action::Drain,
            passed: false,
            until: UnixMs(1_769_904_000_000),
            at: UnixMs(1_768_000_000_000),
        }
    }

    #[test]
    fn the_headline_says_who_what_where_and_when() {
        let money = alert("money", "cloud", Window::Month);
        for (alert, expected) in [
            (money.clone(), "Group vision has filled 82 % of its limit on money (cloud) this month"),
            (
                alert("gpu-time:H100", "everywhere", Window::Quarter),
                "Group vision has filled 82 % of its limit on time of H100 this quarter",
            ),
            (
                Alert { nominal: 0, ..alert("concurrent-gpus", "site:seoul", Window::Instant) },
                "Group vision has filled more than all of its limit on GPUs in use at once (site:seoul) now",
            ),
        ] {
            assert_eq!(headline(&alert), expected);
        }
        let mail = mail(&money);
        assert_eq!(mail.subject, format!("Spillway: {}", headline(&money)));
        assert!(!mail.subject.contains('\n'));
        assert_eq!(
            mail.text,
            "Group vision has filled 82 % of its limit on money (cloud) this month.\n\nThreshold: 80 %\nLimit: 100.00\n\
             Used: 62.50\nHeld by running jobs: 20.00\nLeft: 17.50\n\
             When it is full: no new job starts, and running ones are asked to save their work and stop\n\
             Counts anew from: 2026-02-01T00:00:00.000Z\nGroups above: lab\n\n\
             Told once for this threshold and window: limit/vision/money/cloud/month:1767225600000/80\n"
        );
    }

    #[test]
    fn programs_get_whole_numbers_and_their_unit() {
        let body = webhook(&alert("money", "cloud", Window::Month));
        assert_eq!(
            (&body["used"], &body["unit"], &body["version"]),
            (&json!(62_500_000), &json!("micros"), &json!(1))
        );
        assert_eq!((&body["window"]["kind"], &body["action"]), (&json!("month"), &json!("drain")));
        assert_eq!((&body["above"], &body["at"]), (&json!(["lab"]), &json!("2026-01-09T23:06:40.000Z")));
        let body = webhook(&alert("normalised-gpu-time", "everywhere", Window::Month));
        assert_eq!(body["unit"], json!("gpu-milliseconds"));
    }

    #[test]
    fn slack_gets_blocks_within_its_bounds_and_nothing_that_it_would_read_as_a_command() {
        let body = slack(&alert("money", "cloud", Window::Month));
        let fields = body["blocks"][1]["fields"].as_array().unwrap();
        assert!((1..=10).contains(&fields.len()), "Slack takes ten fields at most");
        assert_eq!(fields[1]["text"], json!("*Limit*\n100.00"));
        assert_eq!(
            body["text"],
            json!("Group vision has filled 82 % of its limit on money (cloud) this month")
        );
        assert_eq!(escaped("<!channel> & <@U1>"), "&lt;!channel&gt; &amp; &lt;@U1&gt;");
    }
}
