//! `spillway broker`: the broker, until it is told to stop.

use anyhow::Context;
use spillway_server::settings::{Overrides, Settings};
use spillway_server::{ADMIN_TOKEN_FILE, Programs};

use crate::args::BrokerArgs;
use crate::failure::Failure;
use crate::logging;
use crate::output::Output;
use crate::render::fleet as render;

/// Runs the broker until SIGINT or SIGTERM; with `--check-config` only reads its settings.
pub(super) fn run(args: BrokerArgs, output: &mut Output) -> Result<u8, Failure> {
    let overrides = Overrides {
        data_dir: args.data_dir,
        database: args.database,
        listen: args.listen,
        tunnel: args.tunnel,
        advertise: args.advertise,
    };
    let settings = Settings::resolve(args.config.as_deref(), overrides).map_err(anyhow::Error::from)?;
    if args.check_config {
        output.talk("the settings are right");
        return Ok(0);
    }
    logging::start(&args.log)?;
    let token_file = settings.data_dir.join(ADMIN_TOKEN_FILE);
    let programs = programs()?;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(anyhow::Error::from)?;
    runtime.block_on(async {
        let stop = logging::stop_signal()?;
        let ready = |ready: &spillway_server::Ready| {
            output.show(ready, render::ready);
            if ready.admin_token.is_some() {
                output.talk(&format!(
                    "the admin's token is shown this once; it is kept in {}",
                    token_file.display()
                ));
            }
        };
        Box::pin(spillway_server::run(settings, programs, stop, ready)).await
    })?;
    Ok(0)
}

/// This very binary, for the machines of a local cloud and the agents on them.
fn programs() -> anyhow::Result<Programs> {
    let binary = std::env::current_exe().context("cannot find this program's own path")?;
    let binary = binary.into_os_string().into_string();
    let binary =
        binary.map_err(|path| anyhow::anyhow!("this program's path {} is not text", path.display()))?;
    let with = |verb: &str| vec![binary.clone(), verb.to_owned()];
    Ok(Programs { agent: with("agent"), machine: with("local-machine") })
}
