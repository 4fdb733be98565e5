//! Who is told of limits that fill up: the `[[alerts]]` of the settings.
//!
//! What leaves this machine is encrypted: `https`, `smtps`, or `smtp` with STARTTLS. Secrets are in files of their
//! own that only their owner can read, so that the settings can be shown to anybody.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use lettre::Address;
use lettre::message::Mailbox;
use reqwest::Url;
use serde::Deserialize;
use spillway_ledger::limits::alerts::Alert;
use spillway_types::GroupName;

use super::{SettingsError, wrong};

/// Most destinations: each is a task of its own.
const MAX_DESTINATIONS: usize = 64;
/// Shortest secret of a webhook, in bytes: 128 random bits in hexadecimal are twice as long.
const LEAST_SECRET: usize = 16;
/// Longest name of a destination: it is a part of headers and file rows.
const MAX_NAME: usize = 63;

/// Where alerts go, and which.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destination {
    /// Its name: unique, and a part of the idempotency key.
    pub name: String,
    /// How it is reached.
    pub channel: Channel,
    /// A certificate authority that is trusted beside those of the machine: a PEM file's content.
    pub ca: Option<Vec<u8>>,
    /// Only alerts of these groups and those below them; empty means all.
    pub groups: BTreeSet<GroupName>,
    /// Only alerts of these thresholds, in percent; empty means all that limits have.
    pub thresholds: BTreeSet<u32>,
}

/// How a destination is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Channel {
    /// A program that takes our JSON, signed.
    Webhook {
        /// Where.
        url: Url,
        /// What it is signed with.
        secret: Secret,
    },
    /// An incoming webhook of Slack, or of what takes the same.
    Slack {
        /// Where: who knows it can write there.
        url: Secret,
    },
    /// E-mail.
    Email {
        /// The server.
        server: MailServer,
        /// Who sends.
        from: Mailbox,
        /// Who gets it.
        to: Vec<Mailbox>,
    },
}

impl Channel {
    /// The kind as it is written in the settings.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Webhook { .. } => "webhook",
            Self::Slack { .. } => "slack",
            Self::Email { .. } => "email",
        }
    }
}

/// A server that takes e-mail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MailServer {
    /// Its name.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// How what is said to it is encrypted.
    pub encryption: Encryption,
    /// User and password, where it wants them.
    pub login: Option<(String, Secret)>,
}

/// How a connection for e-mail is encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encryption {
    /// From the first byte: `smtps`.
    Tls,
    /// After a greeting, and never without: `smtp`.
    StartTls,
    /// Not at all: `smtp` to this machine, where no `ca_file` is given.
    None,
}

/// Something that is shown to nobody.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// A secret.
    #[must_use]
    pub const fn new(text: String) -> Self {
        Self(text)
    }

    /// The secret itself.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(<redacted>)")
    }
}

impl Destination {
    /// Whether this alert goes there.
    #[must_use]
    pub fn wants(&self, alert: &Alert) -> bool {
        let of_groups = self.groups.is_empty() || self.groups.iter().any(|group| alert.concerns(group));
        of_groups && (self.thresholds.is_empty() || self.thresholds.contains(&alert.percent))
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AlertEntry {
    name: String,
    kind: Kind,
    url: Option<String>,
    secret_file: Option<PathBuf>,
    ca_file: Option<PathBuf>,
    from: Option<String>,
    #[serde(default)]
    to: Vec<String>,
    #[serde(default)]
    groups: BTreeSet<GroupName>,
    #[serde(default)]
    thresholds: BTreeSet<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Kind {
    Webhook,
    Slack,
    Email,
}

/// Reads what the entries name. Paths are taken from `base`, the folder of the settings file.
pub(super) fn resolve(
    path: &Path,
    base: &Path,
    entries: Vec<AlertEntry>,
) -> Result<Vec<Destination>, SettingsError> {
    if entries.len() > MAX_DESTINATIONS {
        return Err(wrong(
            path,
            format!("alerts: {} are too many: {MAX_DESTINATIONS} are the most", entries.len()),
        ));
    }
    let mut names = BTreeSet::new();
    let resolve = |entry: AlertEntry| {
        let name = entry.name.clone();
        let refused = |problem: String| wrong(path, format!("alerts `{name}`: {problem}"));
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if name.is_empty() || name.len() > MAX_NAME || !name.chars().all(plain) {
            return Err(refused(format!("a name is 1 to {MAX_NAME} letters, digits, `-`, `_` and `.`")));
        }
        if !names.insert(name.clone()) {
            return Err(refused("there are two with this name; give each one of its own".to_owned()));
        }
        entry.resolve(base).map_err(refused)
    };
    entries.into_iter().map(resolve).collect()
}

impl AlertEntry {
    fn resolve(self, base: &Path) -> Result<Destination, String> {
        if let Some(percent) = self.thresholds.iter().find(|percent| !(1..=1000).contains(*percent)) {
            return Err(format!("thresholds: {percent} is no percentage from 1 to 1000"));
        }
        let secret = self.secret_file.as_ref().map(|file| read_secret(&base.join(file))).transpose()?;
        let ca = self.ca_file.as_ref().map(|file| {
            let file = base.join(file);
            fs::read(&file).map_err(|error| format!("ca_file: cannot read {}: {error}", file.display()))
        });
        let ca = ca.transpose()?;
        if self.kind != Kind::Email && (self.from.is_some() || !self.to.is_empty()) {
            return Err("`from` and `to` are for kind = \"email\"".to_owned());
        }
        let channel = match self.kind {
            Kind::Webhook => webhook(self.url.as_deref(), secret)?,
            Kind::Slack => slack(self.url, secret)?,
            Kind::Email => {
                let url = self.url.ok_or("email needs `url`: smtps://mail.example.org")?;
                let server = mail_server(&url, secret, ca.is_some())?;
                let from = self.from.ok_or("email needs `from`: spillway@example.org")?;
                if self.to.is_empty() {
                    return Err("email needs `to`: [\"finance@example.org\"]".to_owned());
                }
                let to = self.to.iter().map(|to| mailbox("to", to)).collect::<Result<_, _>>()?;
                Channel::Email { server, from: mailbox("from", &from)?, to }
            }
        };
        Ok(Destination { name: self.name, channel, ca, groups: self.groups, thresholds: self.thresholds })
    }
}

/// The one line of a file that nobody but its owner can read.
fn read_secret(file: &Path) -> Result<Secret, String> {
    let shown = file.display();
    let cannot = |error: std::io::Error| format!("secret_file: cannot read {shown}: {error}");
    let mode = fs::metadata(file).map_err(cannot)?.mode();
    if mode & 0o077 != 0 {
        return Err(format!("secret_file: {shown} can be read by others; run `chmod 600 {shown}`"));
    }
    let text = fs::read_to_string(file).map_err(cannot)?;
    let text = text.trim();
    if text.is_empty() || text.contains('\n') {
        return Err(format!("secret_file: {shown} must hold one line, the secret"));
    }
    Ok(Secret::new(text.to_owned()))
}

fn webhook(url: Option<&str>, secret: Option<Secret>) -> Result<Channel, String> {
    let url = http_url("url", url.ok_or("webhook needs `url`: https://example.org/hooks/spillway")?)?;
    let secret = secret.ok_or(
        "webhook needs `secret_file`: a file with the secret that bodies are signed with (`openssl rand -hex 32`)",
    )?;
    if secret.expose().len() < LEAST_SECRET {
        return Err(format!(
            "secret_file: a secret has {LEAST_SECRET} bytes at least (`openssl rand -hex 32`)"
        ));
    }
    Ok(Channel::Webhook { url, secret })
}

fn slack(url: Option<String>, secret: Option<Secret>) -> Result<Channel, String> {
    let (field, url) = match (url, secret) {
        (Some(url), None) => ("url", Secret::new(url)),
        (None, Some(secret)) => ("secret_file", secret),
        (Some(_), Some(_)) | (None, None) => {
            return Err(
                "slack needs either `secret_file`, a file with the webhook's URL, or `url`".to_owned()
            );
        }
    };
    http_url(field, url.expose()).map_err(|problem| match field {
        "url" => problem,
        _ => "secret_file: holds no URL that starts with https://".to_owned(),
    })?;
    Ok(Channel::Slack { url })
}

/// Whether a host is this machine.
fn is_here(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || address.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn http_url(field: &str, text: &str) -> Result<Url, String> {
    let url: Url = text.parse().map_err(|error| format!("{field}: `{text}` is no URL: {error}"))?;
    let host = url.host_str().unwrap_or_default();
    match url.scheme() {
        "https" => Ok(url),
        "http" if is_here(host) => Ok(url),
        _ => Err(format!("{field}: `{text}` must start with https:// (http:// is for this machine only)")),
    }
}

fn mail_server(text: &str, password: Option<Secret>, own_ca: bool) -> Result<MailServer, String> {
    let url: Url = text.parse().map_err(|error| format!("url: `{text}` is no URL: {error}"))?;
    let host = url.host_str().filter(|host| !host.is_empty());
    let host = host.ok_or_else(|| format!("url: `{text}` names no server"))?.to_owned();
    if url.password().is_some() {
        return Err("url: write the password into `secret_file`, not here".to_owned());
    }
    let (encryption, port) = match url.scheme() {
        "smtps" => (Encryption::Tls, 465),
        "smtp" if is_here(&host) && !own_ca => (Encryption::None, 25),
        "smtp" => (Encryption::StartTls, 587),
        other => return Err(format!("url: `{other}` is not smtps (encrypted at once) or smtp (STARTTLS)")),
    };
    let login = match (url.username(), password) {
        ("", None) => None,
        ("", Some(_)) => return Err("url: there is a password and no user: smtps://USER@SERVER".to_owned()),
        (user, None) => return Err(format!("user `{user}` needs `secret_file`, a file with the password")),
        (user, Some(password)) => Some((unescaped(user)?, password)),
    };
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    Ok(MailServer { host, port: url.port().unwrap_or(port), encryption, login })
}

/// A user's name as it is meant: `%40` is `@`.
fn unescaped(user: &str) -> Result<String, String> {
    let refused = || format!("url: user `{user}` is not text; write `@` as %40");
    let mut bytes = Vec::with_capacity(user.len());
    let mut rest = user.bytes();
    while let Some(byte) = rest.next() {
        let byte = match byte {
            b'%' => {
                let digits = [rest.next().ok_or_else(refused)?, rest.next().ok_or_else(refused)?];
                hex::decode(digits).ok().and_then(|byte| byte.first().copied()).ok_or_else(refused)?
            }
            byte => byte,
        };
        bytes.push(byte);
    }
    String::from_utf8(bytes).map_err(|_| refused())
}

fn mailbox(field: &str, text: &str) -> Result<Mailbox, String> {
    let address: Result<Address, _> = text.parse();
    let named = || text.parse::<Mailbox>();
    address.map(|address| Mailbox::new(None, address)).or_else(|_| named()).map_err(|error| {
        format!("{field}: `{text}` is no e-mail address like `finance@example.org`: {error}")
    })
}

#[cfg(test)]
mod tests {
    use super::super::{Overrides, Settings};
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    /// Settings with these alerts, beside a file `key` with a secret, one `short`, and one `open` to all.
    fn written(alerts: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let files = [
            ("key", "0123456789abcdef\n", 0o600),
            ("short", "abc", 0o600),
            ("open", "0123456789abcdef", 0o644),
            ("slack", "https://hooks.slack.com/services/T/B/x", 0o600),
        ];
        for (name, text, mode) in files {
            fs::write(folder.path().join(name), text).unwrap();
            fs::set_permissions(folder.path().join(name), fs::Permissions::from_mode(mode)).unwrap();
        }
        fs::write(folder.path().join("broker.toml"), format!("data_dir = '/data'\n{alerts}")).unwrap();
        folder
    }

    fn resolved(alerts: &str) -> Result<Vec<Destination>, String> {
        let folder = written(alerts);
        let path = folder.path().join("broker.toml");
        let settings = Settings::resolve(Some(&path), Overrides::default());
        settings.map(|settings| settings.alerts).map_err(|error| error.to_string())
    }

    #[test]
    fn every_kind_is_read() {
        let all = resolved(
            "[[alerts]]\nname='hook'\nkind='webhook'\nurl='https://example.org/h'\nsecret_file='key'\n\
             groups=['vision']\nthresholds=[80,100]\n\
             [[alerts]]\nname='chat'\nkind='slack'\nsecret_file='slack'\n\
             [[alerts]]\nname='mail'\nkind='email'\nurl='smtps://me%40example.org@mail.example.org'\nsecret_file='key'\n\
             from='Spillway <spillway@example.org>'\nto=['finance@example.org']\n\
             [[alerts]]\nname='relay'\nkind='email'\nurl='smtp://localhost:2525'\nfrom='a@b.org'\nto=['c@d.org']\n\
             [[alerts]]\nname='far'\nkind='email'\nurl='smtp://mail.example.org'\nfrom='a@b.org'\nto=['c@d.org']\n",
        )
        .unwrap();
        assert_eq!(all.len(), 5);
        assert!(
            matches!(&all[0].channel, Channel::Webhook { secret, .. } if secret.expose() == "0123456789abcdef")
        );
        assert_eq!((all[0].groups.len(), all[0].thresholds.len()), (1, 2));
        let servers: Vec<&MailServer> = all
            .iter()
            .filter_map(
                |it| if let Channel::Email { server, .. } = &it.channel { Some(server) } else { None },
            )
            .collect();
        let short: Vec<_> = servers.iter().map(|it| (it.host.as_str(), it.port, it.encryption)).collect();
        assert_eq!(
            short,
            [
                ("mail.example.org", 465, Encryption::Tls),
                ("localhost", 2525, Encryption::None),
                ("mail.example.org", 587, Encryption::StartTls),
            ]
        );
        assert_eq!(servers[0].login.as_ref().unwrap().0, "me@example.org");
        let shown = format!("{all:?}");
        assert!(!shown.contains("0123456789abcdef") && !shown.contains("hooks.slack.com"), "{shown}");
    }

    #[test]
    fn what_is_wrong_is_named_and_no_secret_is_shown() {
        let hook = "[[alerts]]\nname='h'\nkind='webhook'\n";
        let mail = "[[alerts]]\nname='m'\nkind='email'\nfrom='a@b.org'\nto=['c@d.org']\n";
        for (text, named) in [
            (format!("{hook}url='https://x.org'"), "secret_file"),
            (format!("{hook}url='https://x.org'\nsecret_file='none'"), "none"),
            (format!("{hook}url='https://x.org'\nsecret_file='open'"), "chmod 600"),
            (format!("{hook}url='https://x.org'\nsecret_file='short'"), "16 bytes"),
            (format!("{hook}url='http://x.org'\nsecret_file='key'"), "https://"),
            (format!("{hook}url='x'\nsecret_file='key'"), "`x`"),
            (format!("{hook}secret_file='key'"), "`url`"),
            (format!("{hook}url='https://x.org'\nsecret_file='key'\nto=['c@d.org']"), "email"),
            (format!("{hook}url='https://x.org'\nsecret_file='key'\nthresholds=[0]"), "0 is no percentage"),
            (format!("{hook}url='https://x.org'\nsecret_file='key'\ngroups=['A B']"), "A B"),
            (format!("{hook}url='https://x.org'\nsecret_file='key'\ncolour=1"), "colour"),
            ("[[alerts]]\nname='a b'\nkind='slack'\nurl='https://x.org'".to_owned(), "`a b`"),
            ("[[alerts]]\nname='s'\nkind='moon'\nurl='https://x.org'".to_owned(), "moon"),
            ("[[alerts]]\nname='s'\nkind='slack'\nsecret_file='key'".to_owned(), "holds no URL"),
            ("[[alerts]]\nname='s'\nkind='slack'".to_owned(), "either"),
            (format!("{mail}url='imap://x.org'"), "`imap`"),
            (format!("{mail}url='smtps://u@x.org'"), "user `u`"),
            (format!("{mail}url='smtps://u:p@x.org'"), "secret_file"),
            (format!("{mail}url='smtps://x.org'\nsecret_file='key'"), "no user"),
            (mail.replace("a@b.org", "a b") + "url='smtps://x.org'", "`a b`"),
            (mail.replace("['c@d.org']", "[]") + "url='smtps://x.org'", "`to`"),
            (format!("{mail}url='smtps://x.org'\n{mail}url='smtps://x.org'"), "two with this name"),
        ] {
            let error = resolved(&text).map(|_| ()).unwrap_err();
            assert!(error.contains(named) && error.contains("broker.toml"), "{text}: {error}");
            assert!(!error.contains("0123456789abcdef"), "{error}");
        }
    }
}
