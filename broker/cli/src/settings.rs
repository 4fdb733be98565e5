//! What a client command needs, resolved once: flags, then environment, then defaults.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use spillway_api::{Client, Secret};

use crate::args::GlobalArgs;
use crate::failure::Failure;

/// Where the broker is and who asks.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    server: String,
    token: Option<Secret>,
}

/// What is read of the process's surroundings, so that tests can give their own.
#[derive(Debug, Clone, Default)]
pub(crate) struct Environment {
    token: Option<String>,
    default_token_file: Option<PathBuf>,
}

impl Environment {
    /// The process's own. The default file is the one that a broker of the same user writes.
    pub(crate) fn of_process() -> Self {
        let data_dir = spillway_server::settings::default_data_dir();
        Self {
            token: std::env::var("SPILLWAY_TOKEN").ok().filter(|token| !token.is_empty()),
            default_token_file: Some(data_dir.join(spillway_server::ADMIN_TOKEN_FILE)),
        }
    }
}

impl Settings {
    /// The token is that of `--token-file`, else of `SPILLWAY_TOKEN`, else of the default file, else none.
    pub(crate) fn resolve(global: &GlobalArgs, environment: &Environment) -> Result<Self, Failure> {
        let token = match (&global.token_file, &environment.token) {
            (Some(path), _) => {
                Some(read_token(path).map_err(|source| Failure::file("token file", path, source))?)
            }
            (None, Some(token)) => Some(Secret::new(token.trim())),
            (None, None) => match &environment.default_token_file {
                None => None,
                Some(path) => match read_token(path) {
                    Ok(token) => Some(token),
                    Err(error)
                        if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::PermissionDenied) =>
                    {
                        None
                    }
                    Err(source) => return Err(Failure::file("token file", path, source)),
                },
            },
        };
        Ok(Self { server: global.server.clone(), token })
    }

    /// A client with these settings.
    pub(crate) fn client(self) -> Result<Client, Failure> {
        Ok(Client::new(&self.server, self.token)?)
    }
}

fn read_token(path: &Path) -> std::io::Result<Secret> {
    let text = std::fs::read_to_string(path)?;
    let token = text.trim();
    if token.is_empty() || token.contains(char::is_whitespace) || token.len() > 4096 {
        return Err(std::io::Error::new(ErrorKind::InvalidData, "it must hold one token and nothing else"));
    }
    Ok(Secret::new(token))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::Format;

    fn global(token_file: Option<PathBuf>) -> GlobalArgs {
        GlobalArgs { server: "http://127.0.0.1:1".into(), token_file, output: Format::Table }
    }

    #[test]
    fn the_flag_beats_the_variable_beats_the_default_file() {
        let dir = tempfile::tempdir().expect("a folder");
        let named = dir.path().join("named");
        std::fs::write(&named, "from-flag\n").expect("a file");
        let default_token_file = Some(dir.path().join("admin.token"));
        std::fs::write(dir.path().join("admin.token"), "from-default\n").expect("a file");
        let full = Environment { token: Some("from-variable".into()), default_token_file };
        let bare = Environment { token: None, ..full.clone() };
        let token = |file: Option<&PathBuf>, environment: &Environment| {
            Settings::resolve(&global(file.cloned()), environment).expect("settings").token
        };
        assert_eq!(token(Some(&named), &full), Some(Secret::new("from-flag")));
        assert_eq!(token(None, &full), Some(Secret::new("from-variable")));
        assert_eq!(token(None, &bare), Some(Secret::new("from-default")));
        assert_eq!(token(None, &Environment::default()), None);
    }

    #[test]
    fn a_named_file_must_be_there_and_hold_one_token() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("token");
        let refusal =
            || Settings::resolve(&global(Some(path.clone())), &Environment::default()).expect_err("refused");
        assert!(refusal().render().contains(&path.display().to_string()));
        std::fs::write(&path, "two words").expect("a file");
        assert!(refusal().render().contains("one token"));
    }
}
