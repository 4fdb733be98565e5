//! Who gets in, and what is said to whoever does not: tokens, roles, paths, methods, sizes, panics, shutdown.

use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::http::Method;
use axum::middleware::from_fn_with_state;
use axum::routing::get;
use futures_util::StreamExt;
use spillway_api::error::ErrorEnvelope;
use spillway_api::v1::LogQuery;
use spillway_api::{ErrorCode, route};
use spillway_types::Role;
use tokio_util::sync::CancellationToken;

use super::super::guard::{Gate, Pace, guard};
use super::super::{Access, Route, routes, share};
use super::world::{World, job, refused, submit};

fn code(body: &str) -> ErrorCode {
    serde_json::from_str::<ErrorEnvelope>(body).unwrap_or_else(|error| panic!("{error}: {body}")).error.code
}

/// A path of the table with something in its places.
fn filled(path: &str) -> String {
    path.replace("{id}", "x").replace("{action}", "drain").replace("{group}", "lab").replace("{user}", "ada")
}

#[tokio::test]
async fn every_route_wants_a_token_and_health_does_not() {
    let world = World::start().await;
    let mut refused = 0;
    for line in routes() {
        for headers in ["", "authorization: Bearer wrong\r\n", "authorization: Basic token-ada\r\n"] {
            let (status, body) = world.raw(line.method.as_str(), &filled(line.path), headers, b"").await;
            if line.access == Access::Anyone {
                assert_eq!((status, line.path), (200, "/v1/health"), "{body}");
            } else {
                assert_eq!(
                    (status, code(&body)),
                    (401, ErrorCode::Unauthenticated),
                    "{} {}",
                    line.method,
                    line.path
                );
                refused += 1;
            }
        }
    }
    assert_eq!(refused, 3 * (routes().len() - 1));
}

#[tokio::test]
async fn members_may_not_do_what_admins_do() {
    let world = World::start().await;
    let token = "authorization: Bearer token-ada\r\n";
    let admins: Vec<_> = routes().into_iter().filter(|line| line.access == Access::Admin).collect();
    for line in &admins {
        let (status, body) = world.raw(line.method.as_str(), &filled(line.path), token, b"{}").await;
        assert_eq!((status, code(&body)), (403, ErrorCode::Forbidden), "{} {}", line.method, line.path);
    }
    // Whatever changes something and is not about the user's own jobs is closed to members.
    let open = |path: &str| path.starts_with("/v1/jobs") || path == "/v1/plan";
    let changes = |line: &&Route| line.method != Method::GET && !open(line.path);
    assert!(routes().iter().filter(changes).all(|line| !line.access.is_open_to(Role::Member)));
}

#[tokio::test]
async fn a_finance_viewer_reaches_no_write() {
    let world = World::start().await;
    world.user("fin", Role::FinanceViewer, "lab").await;
    world.user("clo", Role::FinanceCloser, "lab").await;
    // These two only read, and have a body because they take much.
    let reads = |line: &Route| {
        line.method == Method::GET || [route::LEDGER_VERIFY, route::RECONCILE].contains(&line.path)
    };
    for line in routes().iter().filter(|line| !reads(line)) {
        let token = "authorization: Bearer token-fin\r\n";
        let (status, body) = world.raw(line.method.as_str(), &filled(line.path), token, b"{}").await;
        assert_eq!((status, code(&body)), (403, ErrorCode::Forbidden), "{} {}", line.method, line.path);
    }
    let closers =
        routes().into_iter().filter(|line| !reads(line) && line.access.is_open_to(Role::FinanceCloser));
    let closers: Vec<&str> = closers.map(|line| line.path).collect();
    assert_eq!(closers, [route::CORRECTIONS, route::PERIOD_CLOSE, route::POOL_RATES, route::CURRENCY]);
    for user in ["fin", "clo"] {
        let client = world.client(user);
        assert_eq!(client.groups().await.unwrap().items.len(), 3, "all of them");
        assert!(client.verify_ledger().await.unwrap().defect.is_none());
        let (status, _) =
            world.raw("GET", "/v1/jobs/x/logs", "authorization: Bearer token-fin\r\n", b"").await;
        assert_eq!(status, 403, "what a job wrote is nobody's but its group's");
    }
}

#[tokio::test]
async fn unknown_paths_and_wrong_methods_get_envelopes() {
    let world = World::start().await;
    let token = "authorization: Bearer token-ada\r\n";
    for (method, path, wanted) in [
        ("GET", "/", (404, ErrorCode::NotFound)),
        ("GET", "/v1/nonsense", (404, ErrorCode::NotFound)),
        ("DELETE", "/v1/jobs", (405, ErrorCode::MethodNotAllowed)),
        ("GET", "/v1/plan", (405, ErrorCode::MethodNotAllowed)),
        ("GET", "/v1/jobs/nonsense", (400, ErrorCode::Invalid)),
        ("GET", "/v1/jobs?limit=0", (400, ErrorCode::Invalid)),
        ("GET", "/v1/jobs?limit=many", (400, ErrorCode::Invalid)),
        ("GET", "/v1/jobs?stat=running", (400, ErrorCode::Invalid)),
        ("POST", "/v1/jobs", (400, ErrorCode::Invalid)),
    ] {
        let (status, body) = world.raw(method, path, token, b"").await;
        assert_eq!((status, code(&body)), wanted, "{method} {path}: {body}");
    }
    let (_, body) = world.raw("GET", "/v1/jobs?stat=running", token, b"").await;
    let error = serde_json::from_str::<ErrorEnvelope>(&body).unwrap().error;
    assert_eq!(error.field.as_deref(), Some("stat"), "{error:?}");
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused_with_its_size() {
    let world = World::start().await;
    let mut large = job("run: x");
    large.env.insert("DATA".into(), "x".repeat(10 << 20));
    let error = refused(world.client("ada").submit(&large, "k").await);
    assert_eq!(error.code, ErrorCode::TooLarge);
    assert!(error.message.contains("1048576") && error.message.contains("1048"), "{}", error.message);
    let group = spillway_api::v1::GroupRequest {
        name: "x".parse().unwrap(),
        parent: None,
        weight: None,
        priority: None,
        budget: None,
        currency: None,
    };
    let mut body = serde_json::to_vec(&group).unwrap();
    body.resize(64 << 10, b' ');
    let token = "authorization: Bearer token-root\r\n";
    assert_eq!(world.raw("POST", "/v1/groups", token, &body).await.0, 201, "at the limit");
    body.push(b' ');
    assert_eq!(world.raw("POST", "/v1/groups", token, &body).await.0, 413, "over it");
}

async fn broken() -> &'static str {
    panic!("a defect")
}

#[tokio::test]
async fn a_panic_becomes_an_envelope() {
    use hyper::service::Service;
    let world = World::start().await;
    let api = share(world.app.clone(), CancellationToken::new());
    let gate = Gate { api, method: Method::GET, path: "/", access: Access::Anyone, pace: Pace::Prompt };
    let router: axum::Router =
        axum::Router::new().route("/", get(broken).route_layer(from_fn_with_state(gate, guard)));
    let service = hyper_util::service::TowerToHyperService::new(router);
    let response = service.call(Request::new(Body::empty())).await.unwrap();
    assert_eq!(response.status(), 500);
    let body = axum::body::to_bytes(response.into_body(), 10_000).await.unwrap();
    assert_eq!(code(std::str::from_utf8(&body).unwrap()), ErrorCode::Internal);
}

#[tokio::test]
async fn a_shutdown_ends_what_waits() {
    let mut world = World::start().await;
    let ada = world.client("ada");
    let job = submit(&ada, "run: x", "k").await;
    let query = LogQuery { follow: true, ..LogQuery::default() };
    let mut pieces = Box::pin(ada.logs(job.id, &query).await.unwrap());
    let poll = tokio::spawn(async move { ada.wait_for_job(job.id, Duration::from_secs(30)).await });
    world.with_token(None).health().await.unwrap();
    world.stop.cancel();
    let limit = Duration::from_secs(4);
    let piece = tokio::time::timeout(limit, pieces.next()).await.expect("the output ends");
    assert!(matches!(piece, Some(Err(_))), "broken off, so that it is asked for again: {piece:?}");
    let polled = tokio::time::timeout(limit, poll).await.expect("the poll ends").unwrap();
    assert!(polled.is_err() || polled.is_ok_and(|view| !view.summary.state.is_final()));
    tokio::time::timeout(limit, &mut world.serving).await.expect("it stops").unwrap().unwrap();
}
