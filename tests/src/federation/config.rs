//! The files that a broker of a test is started with.

use std::path::{Path, PathBuf};

use super::{CLOUD, GROUP, ON_PREM, POOL};

/// A GPU costs one unit of money a second on-prem, so that every millisecond shows, and more in the cloud.
const CATALOGUE: &str = r#"
[[regions]]
name = "REGION"
boot = "300ms"
[[regions.types]]
name = "one"
gpus = "H100:1"
gpu_memory = "80GB"
cpus = 16
memory = "64GB"
price = "7200"
limit = 4
"#;

/// Every rhythm as fast as it goes. `settle` is how long usage of a lost machine is waited for: long enough for one
/// that comes back in a test, short enough to be waited for.
const TUNING: &str = r#"
[policy]
min_wait = "1s"
preemption = "by-class"
[policy.classes.urgent]
wait_hour_price = "36000"
priority = 10
preempts = true
[policy.classes.patient]
burst = "never"
preemptible = true
[tuning]
warm = "1s"
boot = "30s"
settle = "12s"
sweep = "1s"
stray_age = "1s"
renew = "500ms"
no_capacity_pause = "1s"
start_wait = "2s"
"#;

/// Writes them, with `more` at the end; the path of the one for the command line.
pub(super) fn write(folder: &Path, database: &str, (http, tunnel): (u16, u16), more: &str) -> PathBuf {
    let quoted = |text: &str| toml::Value::from(text).to_string();
    let data_dir = quoted(&folder.join("data").display().to_string());
    let state_dir = quoted(&folder.join("sky").display().to_string());
    let text = format!(
        "data_dir = {data_dir}\ndatabase = {}\nlisten = \"127.0.0.1:{http}\"\ntunnel = \"127.0.0.1:{tunnel}\"\n\
         [[sites]]\nname = \"{ON_PREM}\"\nkind = \"on-prem\"\n\
         [[pools]]\nname = \"{POOL}\"\nsite = \"{ON_PREM}\"\nper_gpu = \"3600\"\n\
         [[groups]]\nname = \"{GROUP}\"\n\
         [[clouds]]\nname = \"sky\"\nkind = \"local\"\ncatalogue = \"catalogue.toml\"\nstate_dir = {state_dir}\n{TUNING}{more}",
        quoted(database)
    );
    let put = |name: &str, text: &str| {
        let path = folder.join(name);
        std::fs::write(&path, text)
            .unwrap_or_else(|error| panic!("cannot write {}: {error}", path.display()));
        path
    };
    put("catalogue.toml", &CATALOGUE.replace("REGION", CLOUD));
    put("broker.toml", &text)
}
