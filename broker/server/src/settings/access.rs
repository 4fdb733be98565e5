//! The policies of access that the settings name: read once, and held against their schema, before anything starts.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use spillway_access::{AccessError, AccessRules};

use super::SettingsError;

/// Reads policy files. Paths are taken from `base`, the folder of the settings file.
pub(super) fn read(base: &Path, files: &[PathBuf]) -> Result<Arc<AccessRules>, SettingsError> {
    let mut texts = Vec::with_capacity(files.len());
    for file in files {
        let path = base.join(file);
        let text = fs::read_to_string(&path);
        let text = text.map_err(|source| SettingsError::ReadAccess { path: path.clone(), source })?;
        texts.push((path.display().to_string(), text));
    }
    let sources: Vec<(&str, &str)> =
        texts.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    Ok(Arc::new(AccessRules::from_sources(&sources)?))
}

impl From<AccessError> for SettingsError {
    fn from(error: AccessError) -> Self {
        Self::Access(Box::new(error))
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Overrides, Settings};
    use super::*;

    /// A folder with settings that name these files.
    fn folder(access: &str, files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("access")).unwrap();
        for (name, text) in files {
            fs::write(folder.path().join(name), text).unwrap();
        }
        let settings = format!("data_dir = '/data'\naccess = {access}\n");
        fs::write(folder.path().join("broker.toml"), settings).unwrap();
        folder
    }

    fn resolve(access: &str, files: &[(&str, &str)]) -> Result<Settings, String> {
        let folder = folder(access, files);
        let path = folder.path().join("broker.toml");
        Settings::resolve(Some(&path), Overrides::default()).map_err(|error| error.to_string())
    }

    const BASE: &str = "@id(\"everybody\") permit (principal, action, resource);";

    #[test]
    fn policies_are_found_beside_the_settings() {
        let settings = resolve("['access/base.cedar']", &[("access/base.cedar", BASE)]).unwrap();
        assert_eq!(settings.access.ids().iter().collect::<Vec<_>>(), ["everybody"]);
        assert!(resolve("[]", &[]).unwrap().access.is_empty());
    }

    #[test]
    fn what_is_wrong_stops_the_start_and_is_pointed_at() {
        let moon =
            format!("{BASE}\n@id(\"x\") forbid (principal, action, resource) when {{ resource.moon }};");
        for (access, files, says) in [
            ("['none.cedar']", vec![], "cannot read access policy file"),
            ("['base.cedar']", vec![("base.cedar", "permit")], "base.cedar:1:"),
            ("['base.cedar']", vec![("base.cedar", moon.as_str())], "base.cedar:2:"),
            ("['base.cedar', 'base.cedar']", vec![("base.cedar", BASE)], "has the id `everybody` too"),
            ("'base.cedar'", vec![("base.cedar", BASE)], "broker.toml"),
        ] {
            let error = resolve(access, &files).map(|_| ()).unwrap_err();
            assert!(error.contains(says), "{says}: {error}");
        }
    }
}
