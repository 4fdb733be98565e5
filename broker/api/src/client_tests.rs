//! The client against answers written by hand on a local port.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;

/// Serves one answer and gives back the request's head and body.
async fn serve(answer: &'static str) -> (String, tokio::task::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let served = tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.expect("a connection");
        let mut request = vec![0; 4096];
        let read = socket.read(&mut request).await.expect("a request");
        socket.write_all(answer.as_bytes()).await.expect("an answer");
        String::from_utf8_lossy(&request[..read]).into_owned()
    });
    (url, served)
}

#[tokio::test]
async fn an_unreachable_broker_is_named() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    drop(listener);
    let error = Client::new(&url, None).expect("client").health().await.expect_err("nobody there");
    let text = error.to_string();
    assert!(text.starts_with(&format!("cannot reach the broker at {url}")), "{text}");
    assert!(text.contains("spillway broker"), "{text}");
}

#[tokio::test]
async fn the_token_travels_and_is_never_shown() {
    let (url, served) = serve("HTTP/1.1 401 Unauthorized\r\ncontent-length: 60\r\nconnection: close\r\n\r\n{\"error\":{\"code\":\"unauthenticated\",\"message\":\"who are you?\"}}").await;
    let client = Client::new(&url, Some(Secret::new("tok-123"))).expect("client");
    assert!(!format!("{client:?}").contains("tok-123"));
    let error = client.sites().await.expect_err("refused");
    assert!(matches!(&error, ClientError::Api(api) if api.code == ErrorCode::Unauthenticated), "{error:?}");
    assert!(served.await.expect("served").to_lowercase().contains("authorization: bearer tok-123"));
}

#[tokio::test]
async fn an_answer_without_an_envelope_gets_the_status_code() {
    let (url, served) =
        serve("HTTP/1.1 503 Service Unavailable\r\ncontent-length: 4\r\nconnection: close\r\n\r\nbusy").await;
    let error = Client::new(&url, None).expect("client").nodes().await.expect_err("refused");
    assert!(matches!(&error, ClientError::Api(api) if api.code == ErrorCode::Unavailable), "{error:?}");
    served.await.expect("served");
}

#[tokio::test]
async fn logs_stream_and_queries_leave_absent_fields_out() {
    let (url, served) = serve("HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello").await;
    let id = "job_00000000000000010000000000000001".parse().expect("id");
    let query = LogQuery { task: Some(3), follow: true, ..LogQuery::default() };
    let mut pieces = Box::pin(Client::new(&url, None).expect("client").logs(id, &query).await.expect("logs"));
    let mut text = Vec::new();
    while let Some(piece) = pieces.next().await {
        text.extend_from_slice(&piece.expect("a piece"));
    }
    assert_eq!(text, b"hello");
    let request = served.await.expect("served");
    assert!(request.starts_with(&format!("GET /v1/jobs/{id}/logs?task=3&follow=true HTTP/1.1")), "{request}");
}

#[test]
fn only_http_urls_are_taken() {
    for url in ["", "localhost:7878", "ftp://a", "http://"] {
        assert!(matches!(Client::new(url, None), Err(ClientError::Url { .. })), "{url}");
    }
    assert_eq!(Client::new("http://127.0.0.1:7878/", None).expect("client").base(), "http://127.0.0.1:7878");
}
