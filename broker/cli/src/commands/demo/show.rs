//! The summary as people read it, and what to try next.

use std::path::Path;

use spillway_types::Money;

use super::summary::{JobLine, Summary};
use crate::output::Look;
use crate::render::value::{list, maybe};
use crate::table::Table;

/// Columns of a terminal from which on the reasons are shown: below, they would fold into many short lines.
const ROOM_FOR_REASONS: u16 = 110;

/// The whole summary.
pub(super) fn summary(look: &Look, summary: &Summary) -> String {
    let roomy = look.width.is_none_or(|columns| columns >= ROOM_FOR_REASONS);
    let (title, why_head) =
        if roomy { ("Who ran where, and why", "WHY") } else { ("Who ran where; -o json says why", "?WHY") };
    let mut text = format!("{title}\n{}", jobs(look, summary, why_head));
    for refused in &summary.refused {
        text.push_str(&format!("\n{} of {} was refused: {}\n", refused.name, refused.group, refused.reason));
    }
    text.push_str("\nWhat it cost\n");
    text.push_str(&spend(look, summary));
    text.push_str(&format!(
        "\n{} jobs: {} succeeded, {} failed, {} refused, {} cancelled\n",
        summary.jobs_total,
        summary.jobs_succeeded,
        summary.jobs_failed,
        summary.jobs_refused,
        summary.jobs_cancelled
    ));
    text.push_str(&format!(
        "{} ran on-prem, {} on a desk, {} in the cloud on {} instances\n",
        summary.jobs_on_prem, summary.jobs_personal, summary.jobs_cloud, summary.instances_launched
    ));
    text.push_str(&format!(
        "from submission to start on an idle node: {} ms (median of {})\n\n",
        summary.dispatch_ms_p50,
        summary.dispatch_ms.len()
    ));
    for check in &summary.checks {
        let mark = if check.passed { "\u{2713}" } else { "\u{2717}" };
        text.push_str(&format!("{mark} {}\n", check.what));
    }
    text
}

fn jobs(look: &Look, summary: &Summary, why_head: &str) -> String {
    let heads = ["JOB", "GROUP", "#STATE", "WHERE", "?ON", ">WAITED", ">RAN", ">COST", why_head];
    let mut table = Table::new(look, &heads);
    for job in &summary.jobs {
        table.row([
            job.name.clone(),
            job.group.to_string(),
            job.state.as_str().to_owned(),
            maybe(job.site.as_ref()),
            job.instance_type.as_ref().map_or_else(|| list(&job.hosts), ToString::to_string),
            job.waited_ms.map(seconds).unwrap_or_default(),
            job.ran_ms.map(seconds).unwrap_or_default(),
            dollars(job.cost_micros),
            why(look, job),
        ]);
    }
    table.lines()
}

/// The first half of the sentence, which says why; all of it where there is room.
fn why(look: &Look, job: &JobLine) -> String {
    match job.because.split_once(';') {
        Some((first, _)) if !look.wide => first.to_owned(),
        Some(_) | None => job.because.clone(),
    }
}

fn spend(look: &Look, summary: &Summary) -> String {
    let mut table = Table::new(look, &["GROUP", "SITE", ">AMOUNT", ">GPU TIME"]);
    for row in &summary.spend.rows {
        table.row([row.group.clone(), row.site.clone(), dollars(row.amount_micros), seconds(row.gpu_ms)]);
    }
    let used: u64 = summary.spend.rows.iter().map(|row| row.gpu_ms).sum();
    table.row(["total".to_owned(), String::new(), dollars(summary.spend.total_micros), seconds(used)]);
    table.lines()
}

/// Tenths of a second: the demo's jobs are short.
fn seconds(ms: u64) -> String {
    let tenths = (ms + 50) / 100;
    format!("{}.{}s", tenths / 10, tenths % 10)
}

/// With four decimals: seconds of a GPU cost less than a cent.
fn dollars(micros: i64) -> String {
    format!("{:.4}", Money::usd_micros(micros))
}

/// What to try while it serves.
pub(super) fn next_steps(http: &str, data: &Path) -> String {
    let token = data.join("admin.token");
    let quoted = shell_word(&token.display().to_string());
    format!(
        "\nThe federation goes on until Ctrl-C. In another terminal:\n\n  \
         export SPILLWAY_SERVER={http}\n  \
         export SPILLWAY_TOKEN=\"$(cat {quoted})\"\n\n  \
         spillway jobs                          every job so far\n  \
         spillway job JOB                       one of them: why it ran where it did\n  \
         spillway logs JOB                      what it wrote\n  \
         spillway nodes                         the machines\n  \
         spillway spend --by group,site         the account\n  \
         spillway run --group vision --gpus H100:1 --time-limit 1m --follow -- sh -c 'echo $CUDA_VISIBLE_DEVICES'\n  \
         spillway run --group vision --residency eu --gpus H100:8 --time-limit 1m --wait -- sleep 2\n"
    )
}

/// A text as one word for a shell.
fn shell_word(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    if text.chars().all(plain) { text.to_owned() } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use spillway_types::UnixMs;

    use super::super::samples;
    use super::*;

    #[test]
    fn values_read_well() {
        assert_eq!([seconds(0), seconds(1249), seconds(59_960)], ["0.0s", "1.2s", "60.0s"]);
        assert_eq!(dollars(1_667), "0.0017 USD");
    }

    #[test]
    fn the_whole_reads_well() {
        let mut summary = Summary::of(samples::evidence(), Duration::from_secs(20));
        summary.note_processes_left(0);
        let look = |width| Look { wide: false, width, now: UnixMs(0) };
        insta::assert_snapshot!(super::summary(&look(None), &summary));
        let narrow = super::summary(&look(Some(80)), &summary);
        assert!(
            narrow.starts_with("Who ran where; -o json says why\n") && !narrow.contains("WHY"),
            "{narrow}"
        );
    }

    #[test]
    fn a_path_with_blanks_stays_one_word() {
        let steps = next_steps("http://127.0.0.1:9", Path::new("/tmp/it's here"));
        assert!(steps.contains(r#"SPILLWAY_TOKEN="$(cat '/tmp/it'\''s here/admin.token')""#), "{steps}");
        assert!(next_steps("h", Path::new("/tmp/x")).contains("$(cat /tmp/x/admin.token)"));
    }
}
