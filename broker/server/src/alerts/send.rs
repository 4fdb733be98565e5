//! Sends one alert to one destination: one request, one bound on its time, no retry.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::Context as _;
use lettre::message::header::{ContentType, HeaderName, HeaderValue};
use lettre::message::{Mailbox, Message};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, Tls, TlsParameters};
use lettre::transport::smtp::extension::ClientId;
use lettre::{AsyncSmtpTransport, AsyncTransport as _, Tokio1Executor};
use reqwest::header::{CONTENT_TYPE, RETRY_AFTER};
use reqwest::{RequestBuilder, StatusCode};
use sha2::{Digest as _, Sha256};
use spillway_ledger::limits::alerts::{Alert, message};
use spillway_types::UnixMs;

use super::signature;
use crate::settings::{Channel, Destination, Encryption, MailServer};

/// How long a destination may take for one alert.
const PATIENCE: Duration = Duration::from_secs(15);
/// How much of an answer is read for the log.
const SHOWN_BYTES: usize = 200;

/// Why an alert was not taken.
#[derive(Debug)]
pub(super) struct SendError {
    /// In words, without secrets.
    pub(super) problem: String,
    /// How long the receiver asked to be left alone.
    pub(super) retry_after: Option<Duration>,
}

impl SendError {
    fn new(problem: impl std::fmt::Display) -> Self {
        Self { problem: problem.to_string(), retry_after: None }
    }
}

/// What is kept open to a destination.
#[derive(Debug)]
enum Wire {
    Http(reqwest::Client),
    Mail(Box<AsyncSmtpTransport<Tokio1Executor>>),
}

/// Sends to one destination.
#[derive(Debug)]
pub(super) struct Sender {
    destination: Destination,
    wire: Wire,
}

impl Sender {
    /// Makes ready to send. Nothing is connected yet.
    pub(super) fn open(destination: &Destination) -> anyhow::Result<Self> {
        let ca = destination.ca.as_deref();
        let wire = match &destination.channel {
            Channel::Webhook { .. } | Channel::Slack { .. } => Wire::Http(http_client(ca)?),
            Channel::Email { server, .. } => Wire::Mail(Box::new(mail_transport(server, ca)?)),
        };
        Ok(Self { destination: destination.clone(), wire })
    }

    /// Sends an alert; `Ok` means that the receiver has taken it.
    pub(super) async fn send(&self, alert: &Alert, now: UnixMs) -> Result<(), SendError> {
        let key = format!("{}/{}", alert.key, self.destination.name);
        match (&self.destination.channel, &self.wire) {
            (Channel::Webhook { url, secret }, Wire::Http(client)) => {
                let body = json(&message::webhook(alert))?;
                let signature = signature::sign(secret.expose(), now.0.div_euclid(1000), &body);
                let request = client.post(url.clone()).header(signature::HEADER, signature);
                post(request, &key, body).await
            }
            (Channel::Slack { url }, Wire::Http(client)) => {
                post(client.post(url.expose()), &key, json(&message::slack(alert))?).await
            }
            (Channel::Email { from, to, .. }, Wire::Mail(transport)) => {
                let mail = mail(alert, from, to, &key).map_err(SendError::new)?;
                let sent = tokio::time::timeout(PATIENCE, transport.send(mail)).await;
                let sent = sent.map_err(|_| SendError::new("the mail server does not answer in time"))?;
                sent.map(drop).map_err(|error| SendError::new(format_args!("the mail server: {error}")))
            }
            (Channel::Webhook { .. } | Channel::Slack { .. }, Wire::Mail(_))
            | (Channel::Email { .. }, Wire::Http(_)) => {
                Err(SendError::new("the destination is not what it was opened as"))
            }
        }
    }
}

fn json(body: &serde_json::Value) -> Result<Vec<u8>, SendError> {
    serde_json::to_vec(body).map_err(SendError::new)
}

/// Answers are never followed elsewhere: what is sent is for this receiver.
fn http_client(ca: Option<&[u8]>) -> anyhow::Result<reqwest::Client> {
    let mut builder = reqwest::Client::builder()
        .timeout(PATIENCE)
        .redirect(reqwest::redirect::Policy::none())
        .user_agent(concat!("spillway/", env!("CARGO_PKG_VERSION")));
    if let Some(pem) = ca {
        let own = reqwest::Certificate::from_pem_bundle(pem).context("ca_file: no certificates in PEM")?;
        builder = builder.tls_certs_merge(own);
    }
    builder.build().context("cannot make an HTTP client")
}

async fn post(request: RequestBuilder, key: &str, body: Vec<u8>) -> Result<(), SendError> {
    let request = request.header(CONTENT_TYPE, "application/json").header("idempotency-key", key).body(body);
    // A URL may be a secret: errors are shown without it.
    let answer = request.send().await.map_err(|error| SendError::new(causes(&error.without_url())))?;
    let status = answer.status();
    if status.is_success() {
        return Ok(());
    }
    let wish = answer.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
    let asks = [StatusCode::TOO_MANY_REQUESTS, StatusCode::SERVICE_UNAVAILABLE].contains(&status);
    let said = answer.bytes().await.unwrap_or_default();
    let said = String::from_utf8_lossy(said.get(..SHOWN_BYTES).unwrap_or(&said)).into_owned();
    let retry_after = wish.filter(|_| asks).map(Duration::from_secs);
    Err(SendError { problem: format!("the receiver answered {status}: {}", said.trim()), retry_after })
}

/// An error with its causes: the first alone says too little ("error sending request").
fn causes(error: &dyn std::error::Error) -> String {
    let chain = std::iter::successors(Some(error), |error| error.source());
    chain.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

fn mail_transport(
    server: &MailServer,
    ca: Option<&[u8]>,
) -> anyhow::Result<AsyncSmtpTransport<Tokio1Executor>> {
    let parameters = || -> anyhow::Result<TlsParameters> {
        let mut parameters = TlsParameters::builder(server.host.clone());
        if let Some(pem) = ca {
            let own = Certificate::from_pem(pem).context("ca_file: no certificate in PEM")?;
            parameters = parameters.add_root_certificate(own);
        }
        parameters.build().context("cannot make ready for TLS")
    };
    let tls = match server.encryption {
        Encryption::Tls => Tls::Wrapper(parameters()?),
        Encryption::StartTls => Tls::Required(parameters()?),
        Encryption::None => Tls::None,
    };
    let mut builder = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(&server.host)
        .port(server.port)
        .tls(tls)
        .timeout(Some(PATIENCE))
        .hello_name(own_name());
    if let Some((user, password)) = &server.login {
        builder = builder.credentials(Credentials::new(user.clone(), password.expose().to_owned()));
    }
    Ok(builder.build())
}

/// What this machine calls itself.
fn own_name() -> ClientId {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    match name.parse::<IpAddr>() {
        Ok(IpAddr::V4(address)) => ClientId::Ipv4(address),
        Ok(IpAddr::V6(address)) => ClientId::Ipv6(address),
        Err(_) => ClientId::Domain(name),
    }
}

/// The e-mail, under an id that is the same whenever it is sent, so that programs for mail show it once.
fn mail(alert: &Alert, from: &Mailbox, to: &[Mailbox], key: &str) -> anyhow::Result<Message> {
    let message::Mail { subject, text } = message::mail(alert);
    let digest = hex::encode(Sha256::digest(key.as_bytes()));
    let id = format!("<{digest}@{}>", from.email.domain());
    let builder = Message::builder().from(from.clone()).subject(subject).message_id(Some(id));
    let builder = to.iter().cloned().fold(builder, lettre::message::MessageBuilder::to);
    let mut mail = builder.header(ContentType::TEXT_PLAIN).body(text)?;
    // Holiday notices do not answer what says this (RFC 3834).
    let name = HeaderName::new_from_ascii_str("Auto-Submitted");
    mail.headers_mut().insert_raw(HeaderValue::new(name, "auto-generated".to_owned()));
    Ok(mail)
}
