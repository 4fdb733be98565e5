//! Deliveries to a real HTTP server on this machine: signed, again until they are taken, and once after a restart.

use std::net::SocketAddr;
use std::path::Path;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use spillway_ledger::limits::{Action, LimitId};
use spillway_ledger::window::Window;
use spillway_types::UnixMs;
use tokio::sync::mpsc;

use super::*;
use crate::settings::{Channel, Secret};

const SECRET: &str = "0123456789abcdef";
const SOON: Duration = Duration::from_secs(30);

/// What the receiver got, and what it answered.
#[derive(Debug)]
struct Got {
    headers: HeaderMap,
    body: Bytes,
    answer: StatusCode,
}

impl Got {
    fn header(&self, name: &str) -> &str {
        self.headers[name].to_str().unwrap()
    }

    fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

type Receiver = (Arc<Mutex<VecDeque<StatusCode>>>, mpsc::UnboundedSender<Got>);

/// Answers with each of these, then with 200.
async fn receiver(answers: &[StatusCode]) -> (SocketAddr, mpsc::UnboundedReceiver<Got>) {
    let (tell, told) = mpsc::unbounded_channel();
    let answers = Arc::new(Mutex::new(answers.iter().copied().collect()));
    let take = async |State((answers, tell)): State<Receiver>, headers: HeaderMap, body: Bytes| {
        let answer = lock(&answers).pop_front().unwrap_or(StatusCode::OK);
        tell.send(Got { headers, body, answer }).unwrap();
        (answer, [("retry-after", "1")], "said the receiver")
    };
    let app = Router::new().fallback(take).with_state((answers, tell));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    (address, told)
}

async fn next(told: &mut mpsc::UnboundedReceiver<Got>) -> Got {
    tokio::time::timeout(SOON, told.recv()).await.expect("something is sent").expect("the receiver runs")
}

fn alert(group: &str, percent: u32, clock: Clock) -> Alert {
    let limit = LimitId {
        group: group.parse().unwrap(),
        metric: "money".parse().unwrap(),
        scope: "everywhere".parse().unwrap(),
        window: Window::Month,
    };
    let now = clock.now();
    Alert {
        key: format!("limit/{group}/money/everywhere/month:1/{percent}"),
        limit,
        above: vec!["lab".parse().unwrap()],
        percent,
        nominal: 100_000_000,
        used: 90_000_000,
        held: 0,
        left: 10_000_000,
        action: Action::Drain,
        passed: false,
        until: now.plus(spillway_types::DurationMs::from_secs(3600)),
        at: now,
    }
}

fn webhook(name: &str, to: SocketAddr) -> Destination {
    let url = format!("http://{to}/hook").parse().unwrap();
    let channel = Channel::Webhook { url, secret: Secret::new(SECRET.to_owned()) };
    Destination { name: name.to_owned(), channel, ca: None, groups: [].into(), thresholds: [].into() }
}

struct Broker {
    alerts: Arc<Alerts>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Broker {
    fn start(destinations: &[Destination], folder: &Path, clock: Clock) -> Self {
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let alerts = Alerts::start(destinations, &folder.join("delivered"), clock, &tasks, &stop).unwrap();
        Self { alerts, tasks, stop }
    }

    /// Waits until nothing waits any more.
    async fn is_done(&self) {
        let done = async {
            while self.alerts.status().iter().any(|status| status.waiting > 0) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(SOON, done).await.expect("everything is delivered");
    }

    async fn ends(self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

#[tokio::test]
async fn a_webhook_is_signed_and_sent_again_under_the_same_key_until_it_is_taken() {
    let clock = Clock::start(UnixMs(0));
    let folder = tempfile::tempdir().unwrap();
    let refusals = [StatusCode::SERVICE_UNAVAILABLE, StatusCode::NOT_FOUND];
    let (address, mut told) = receiver(&refusals).await;
    let broker = Broker::start(&[webhook("finance", address)], folder.path(), clock);
    broker.alerts.offer(&[alert("vision", 80, clock), alert("vision", 100, clock)]);
    let mut keys = vec![];
    for expected in [refusals[0], refusals[1], StatusCode::OK, StatusCode::OK] {
        let got = next(&mut told).await;
        assert_eq!(got.answer, expected);
        let now = clock.now().0 / 1000;
        let header = got.header(signature::HEADER);
        assert_eq!(signature::verify(SECRET, header, &got.body, now, 5), Ok(()));
        assert!(signature::verify("another secret", header, &got.body, now, 5).is_err());
        let mut changed = got.body.to_vec();
        changed[0] ^= 1;
        assert!(signature::verify(SECRET, header, &changed, now, 5).is_err());
        assert_eq!(got.header("content-type"), "application/json");
        keys.push((got.header("idempotency-key").to_owned(), got.json()["threshold_percent"].clone()));
    }
    let first = "limit/vision/money/everywhere/month:1/80/finance";
    assert!(keys[..3].iter().all(|(key, percent)| key == first && *percent == 80), "{keys:?}");
    assert!(keys[3].0.ends_with("/100/finance") && keys[3].1 == 100, "in their order: {keys:?}");
    broker.is_done().await;
    broker.ends().await;
    assert!(told.try_recv().is_err());
}

#[tokio::test]
async fn what_was_taken_is_not_sent_again_and_what_was_not_is() {
    let clock = Clock::start(UnixMs(0));
    let folder = tempfile::tempdir().unwrap();
    let (good, mut told) = receiver(&[]).await;
    // Nobody listens there.
    let bad = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap()
    };
    let destinations = [webhook("good", good), webhook("bad", bad)];
    let broker = Broker::start(&destinations, folder.path(), clock);
    let both = [alert("vision", 80, clock), alert("audio", 80, clock)];
    broker.alerts.offer(&both);
    broker.alerts.offer(&both);
    for group in ["vision", "audio"] {
        assert_eq!(
            next(&mut told).await.json()["group"],
            group,
            "a destination that is away keeps no other waiting"
        );
    }
    let status = tokio::time::timeout(SOON, async {
        loop {
            let status = broker.alerts.status();
            if status[0].waiting == 0 && status[1].problem.is_some() {
                return status;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    let status = status.await.expect("one is done, the other has failed");
    assert_eq!((status[1].waiting, &status[0].problem), (2, &None));
    assert_eq!((status[1].name.as_str(), status[1].channel.as_str()), ("bad", "webhook"));
    assert!(!status[1].problem.as_ref().unwrap().contains("/hook"), "no URL is shown: {status:?}");
    broker.ends().await;

    let again = [webhook("good", good), webhook("bad", good)];
    let broker = Broker::start(&again, folder.path(), clock);
    broker.alerts.offer(&both);
    for group in ["vision", "audio"] {
        let got = next(&mut told).await;
        assert_eq!(
            (got.json()["group"].as_str(), got.header("idempotency-key").ends_with("/bad")),
            (Some(group), true)
        );
    }
    broker.is_done().await;
    broker.ends().await;
    assert!(told.try_recv().is_err(), "what was taken before the restart is not sent again");
}

#[tokio::test]
async fn each_destination_gets_what_it_wants_in_its_own_words() {
    let clock = Clock::start(UnixMs(0));
    let folder = tempfile::tempdir().unwrap();
    let (address, mut told) = receiver(&[]).await;
    let url = Secret::new(format!("http://{address}/services/secret"));
    let slack = Destination {
        channel: Channel::Slack { url },
        groups: ["vision".parse().unwrap()].into(),
        thresholds: [100].into(),
        ..webhook("chat", address)
    };
    let of_lab = Destination { groups: ["lab".parse().unwrap()].into(), ..slack.clone() };
    let broker =
        Broker::start(&[slack, Destination { name: "lab".to_owned(), ..of_lab }], folder.path(), clock);
    broker.alerts.offer(&[
        alert("audio", 100, clock),
        alert("vision", 80, clock),
        alert("vision", 100, clock),
    ]);
    broker.is_done().await;
    let mut texts = vec![];
    for _ in 0..3 {
        let got = next(&mut told).await;
        assert!(!got.headers.contains_key(signature::HEADER));
        let text = got.json()["text"].as_str().unwrap().to_owned();
        assert!(got.json()["blocks"].is_array());
        texts.push((text, got.header("idempotency-key").rsplit('/').next().unwrap().to_owned()));
    }
    texts.sort();
    let said = |group: &str| format!("Group {group} has filled 90 % of its limit on money this month");
    let expected = [("audio", "lab"), ("vision", "chat"), ("vision", "lab")];
    assert_eq!(texts, expected.map(|(group, to)| (said(group), to.to_owned())));
    broker.ends().await;
    assert!(told.try_recv().is_err());
}

#[test]
fn pauses_double_up_to_a_bound_and_a_receiver_may_ask_for_longer_ones() {
    let seconds = Duration::from_secs;
    let doubled: Vec<u64> = (1..=10).map(|failures| pause(failures, None).as_secs()).collect();
    assert_eq!(doubled, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300]);
    assert_eq!(pause(u32::MAX, None), LONGEST_PAUSE);
    assert_eq!(pause(1, Some(seconds(60))), seconds(60));
    assert_eq!(pause(5, Some(seconds(2))), seconds(16), "not shorter ones");
    assert_eq!(pause(1, Some(seconds(1_000_000))), LONGEST_WISH);
}
