//! The books: the ledger's verification and export, periods, rate cards, and providers' bills.

use std::collections::BTreeMap;
use std::path::Path;

use spillway_api::Client;
use spillway_api::v1::{CorrectionRequest, RatesRequest, ReconcileQuery};
use spillway_ledger::hledger::HledgerWriter;
use spillway_ledger::journal::Digest;
use spillway_ledger::limits::Metric;
use spillway_ledger::rates::{Card, Lending, PoolCost};
use spillway_types::{Currency, GpuModel, HourlyRate, Money, UnixMs};

use super::focus_export;
use crate::args::ledger::{
    ExportArgs, ExportCommand, LedgerArgs, LedgerCommand, PeriodsArgs, PeriodsCommand, RatesArgs,
    RatesCommand, RatesSetArgs, ReconcileArgs,
};
use crate::failure::{ERROR, Failure};
use crate::output::Output;
use crate::render::ledger as render;

pub(super) async fn ledger(client: &Client, args: LedgerArgs, output: &mut Output) -> Result<u8, Failure> {
    match args.command {
        LedgerCommand::Verify => {
            let check = client.verify_ledger().await?;
            output.show(&check, render::check);
            Ok(if check.defect.is_some() { ERROR } else { 0 })
        }
        LedgerCommand::Correct { seq, amount, gpu_hours, because } => {
            let gpu_ms = gpu_hours.map(|text| gpu_ms("--gpu-hours", &text)).transpose()?;
            let made = client.correct(&CorrectionRequest { seq, amount, gpu_ms, because }).await?;
            output.show(&made, render::correction);
            Ok(0)
        }
    }
}

fn gpu_ms(argument: &str, text: &str) -> Result<u64, Failure> {
    let amount = Metric::NormalisedGpuTime.parse_amount(text);
    let amount = amount.ok().and_then(|amount| u64::try_from(amount).ok());
    amount.ok_or_else(|| Failure::usage(argument, text, "write GPU-hours with three decimals at most: `1.5`"))
}

pub(super) async fn export(client: &Client, args: &ExportArgs, output: &mut Output) -> Result<u8, Failure> {
    match &args.command {
        ExportCommand::Hledger => hledger(client, output).await?,
        ExportCommand::Period { period } => output.bytes(&client.period_export(*period).await?),
        ExportCommand::Focus(args) => focus_export::run(client, args, output).await?,
    }
    Ok(0)
}

/// Page by page, so that a journal of any length is exported in little memory. What is written has the end of the
/// chain that it was read to.
async fn hledger(client: &Client, output: &mut Output) -> Result<(), Failure> {
    let (mut after, mut previous) = (0, Digest::default());
    let mut writer = HledgerWriter::new(String::new(), Currency::USD).map_err(anyhow::Error::from)?;
    while !output.reader_gone() {
        let page = client.ledger(after).await?;
        let Some(last) = page.items.last() else { break };
        (after, previous) = {
            let (next, hash) = (last.seq, last.hash);
            let mut before = previous;
            for view in page.items {
                let record = view.record(before);
                before = record.hash;
                writer.record(&record).map_err(anyhow::Error::from)?;
            }
            (next, hash)
        };
        output.data(&std::mem::take(writer.output()));
    }
    output.data(&writer.finish().map_err(anyhow::Error::from)?);
    output.talk(&format!("{after} records; the hash of the last is {previous}"));
    Ok(())
}

pub(super) async fn periods(client: &Client, args: &PeriodsArgs, output: &mut Output) -> Result<u8, Failure> {
    match args.command {
        None => output.show(&client.periods().await?, render::periods),
        Some(PeriodsCommand::Show { period }) => {
            output.show(&client.period_manifests(period).await?, render::manifests);
        }
        Some(PeriodsCommand::Close { period }) => {
            output.show(&client.close_period(period).await?, render::period);
        }
    }
    Ok(0)
}

pub(super) async fn rates(client: &Client, args: RatesArgs, output: &mut Output) -> Result<u8, Failure> {
    match args.command {
        RatesCommand::Show => output.show(&client.rates().await?, render::rates),
        RatesCommand::Set(args) => {
            let request = RatesRequest { effective: effective(args.from.as_deref())?, card: card(&args)? };
            output.show(&client.set_rates(&args.pool, &request).await?, render::rate);
        }
    }
    Ok(0)
}

/// A day, as its midnight in UTC, or an instant.
fn effective(text: Option<&str>) -> Result<Option<UnixMs>, Failure> {
    let Some(text) = text else { return Ok(None) };
    let day = || text.parse::<spillway_ledger::calendar::Day>().map(spillway_ledger::calendar::Day::start);
    let instant = || spillway_ledger::calendar::parse_instant(text);
    let problem = "write a day as `2026-04-01`, or an instant as `2026-04-01T00:00:00Z`";
    day().ok().or_else(instant).map(Some).ok_or_else(|| Failure::usage("--from", text, problem))
}

fn card(args: &RatesSetArgs) -> Result<Card, Failure> {
    let unused = args.unused.clone();
    match &args.cost {
        Some(path) => {
            let cost = cost(path)?;
            let unused = unused.unwrap_or_else(|| cost.unused.clone());
            let currency = args.currency.unwrap_or(cost.currency);
            Ok(Card::Cost(PoolCost { unused, currency, ..cost }))
        }
        None => {
            let (unused, currency) = (unused.unwrap_or_default(), args.currency.unwrap_or_default());
            Ok(Card::Flat { per_gpu: per_gpu(&args.gpu)?, lending: lending(args)?, currency, unused })
        }
    }
}

/// Who lends the machines, where somebody does.
fn lending(args: &RatesSetArgs) -> Result<Option<Lending>, Failure> {
    let Some(owner) = &args.owner else { return Ok(None) };
    let refused = || {
        let problem = "write a percentage from 0 to 100 with one decimal at most: `80`, `12.5`";
        Failure::usage("--owner-share", &args.owner_share, problem)
    };
    let (whole, tenth) = args.owner_share.split_once('.').unwrap_or((&args.owner_share, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(tenth) || tenth.len() != 1 {
        return Err(refused());
    }
    let permille: u16 = format!("{whole}{tenth}").parse().map_err(|_| refused())?;
    Lending::new(owner.clone(), permille).map(Some).map_err(|_| refused())
}

fn cost(path: &Path) -> Result<PoolCost, Failure> {
    let text = std::fs::read_to_string(path).map_err(|source| Failure::file("pool cost", path, source))?;
    let place = path.display().to_string();
    let cost: PoolCost = serde_json::from_str(&text)
        .map_err(|error| Failure::usage("--cost", &place, format!("is no pool cost: {error}")))?;
    cost.check().map_err(|error| Failure::usage("--cost", &place, error.to_string()))?;
    Ok(cost)
}

/// `MODEL=RATE`, each once.
fn per_gpu(given: &[String]) -> Result<BTreeMap<GpuModel, HourlyRate>, Failure> {
    let mut rates = BTreeMap::new();
    for text in given {
        let wrong = |problem: String| Failure::usage("--gpu", text, problem);
        let (model, rate) =
            text.split_once('=').ok_or_else(|| wrong("write it like `H100=2.50`".to_owned()))?;
        let model: GpuModel = model.parse().map_err(|error| wrong(format!("{error}")))?;
        let rate = rate.parse().map_err(|error| wrong(format!("{error}")))?;
        if rates.insert(model, rate).is_some() {
            return Err(wrong("names its model for the second time".to_owned()));
        }
    }
    Ok(rates)
}

pub(super) async fn reconcile(
    client: &Client,
    args: ReconcileArgs,
    output: &mut Output,
) -> Result<u8, Failure> {
    let bill = std::fs::read(&args.file).map_err(|source| Failure::file("bill", &args.file, source))?;
    // A bill that cannot be read is refused here, before it is sent.
    let place = args.file.display().to_string();
    spillway_ledger::reconcile::Bill::read(&bill)
        .map_err(|error| Failure::usage("FILE", &place, error.to_string()))?;
    let tolerance_micros = tolerance(args.tolerance)?;
    let query = ReconcileQuery { cloud: args.cloud, tolerance_micros };
    output.show(&client.reconcile(&query, bill).await?, render::reconciliation);
    Ok(0)
}

fn tolerance(given: Money) -> Result<u64, Failure> {
    let micros = u64::try_from(given.micros);
    micros.map_err(|_| Failure::usage("--tolerance", &given.to_string(), "a tolerance cannot be negative"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_and_instants_parse() {
        let rates = per_gpu(&["h100=2.50".to_owned(), "A100=1".to_owned()]).expect("rates");
        assert_eq!(rates.values().map(|rate| rate.0).collect::<Vec<_>>(), [1_000_000, 2_500_000]);
        for wrong in [["H100"].as_slice(), &["H100=x"], &["=1"], &["H100=1", "h100=2"]] {
            let given: Vec<String> = wrong.iter().map(|text| (*text).to_owned()).collect();
            assert_eq!(per_gpu(&given).expect_err("wrong").exit_code(), 2, "{wrong:?}");
        }
        assert_eq!(effective(None).expect("now"), None);
        assert_eq!(
            effective(Some("2026-04-01")).expect("a day"),
            effective(Some("2026-04-01T00:00:00Z")).expect("it")
        );
        assert!(
            effective(Some("tomorrow")).is_err() && effective(Some("2026-04-01T00:00:00+09:00")).is_err()
        );
        assert_eq!(tolerance("0.01".parse().expect("money")).expect("a cent"), 10_000);
        assert!(tolerance("-1".parse().expect("money")).is_err());
    }
}
