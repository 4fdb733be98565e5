//! Charges of what is about no attempt: what a pool cost that nobody used, and by how much a bill differs.

use std::collections::BTreeMap;

use spillway_ledger::Account as Posted;
use spillway_ledger::journal::{ExportLine, Record, Statement, StatementKind};
use spillway_types::PoolName;

use super::priced::GPU_HOURS;
use super::{FromLedger, MappingError, parties};
use crate::charge::{Account, Capacity, Charge, Nature, Priced, Pricing, Resource, Service, Utilisation};
use crate::{Period, Quantity};

impl FromLedger {
    /// One charge for each account that bears a part of it.
    pub(super) fn statement(
        &self,
        record: &Record,
        statement: &Statement,
    ) -> Result<Vec<Charge>, MappingError> {
        let seq = record.seq;
        let about = statement.period();
        let (start, end) = (about.start(&self.zone), about.end(&self.zone));
        let charge_period = Period::new(start, end).map_err(|source| MappingError::Period { seq, source })?;
        let lines = ExportLine::of(record);
        Ok(lines.iter().filter_map(|line| self.line(statement, line, charge_period)).collect())
    }

    fn line(&self, statement: &Statement, line: &ExportLine, charge_period: Period) -> Option<Charge> {
        let site = statement.site();
        let bearer: Posted = line.payer.parse().ok()?;
        let account = match &bearer {
            Posted::Idle(pool) => parties::idle_account(site, pool),
            Posted::Spend(group) => parties::group_account(group, None),
            Posted::Variance(site) => parties::site_account(site, "Variance", site.as_str()),
            // Nothing else bears a part of a statement; what is paid out is its other side.
            Posted::Held(_)
            | Posted::Committed
            | Posted::Owner(_)
            | Posted::Revenue(_)
            | Posted::Payable { .. } => return None,
        };
        let payee = line.payee.clone().unwrap_or(Posted::Revenue(site.clone()));
        let is_unused =
            statement.kind() == StatementKind::PoolClose && !matches!(bearer, Posted::Variance(_));
        let pool = statement.pool().filter(|_| is_unused && line.micros >= 0);
        Some(Charge {
            id: format!("{}/{}", line.key, line.payer.replace(':', "-")),
            ledger_seq: line.seq,
            invoice_id: parties::invoice_id(&payee, self.month, &account),
            seller: parties::seller(&payee),
            billing_period: self.billing,
            charge_period,
            currency: self.currency,
            service: Service {
                name: "GPU pool".to_owned(),
                category: "Compute",
                subcategory: "Other (Compute)",
            },
            place: Some(parties::place(site, None)),
            resource: pool.map(|pool| Resource {
                id: format!("{site}/{pool}"),
                kind: "Pool".to_owned(),
                name: None,
            }),
            nature: pool.map_or(Nature::Adjustment, |pool| unused(statement, pool, &account, line.micros)),
            billed_micros: line.micros,
            effective_micros: line.micros,
            exchange: None,
            capacity: pool
                .map(|pool| Capacity { pool: format!("{site}/{pool}"), utilisation: Utilisation::Unused }),
            commitment: None,
            reverses: None,
            description: describe(statement, pool),
            tags: BTreeMap::new(),
            work: None,
            on_demand_equivalent_micros: None,
            account,
        })
    }
}

/// A month of a pool's unused capacity, or of a group's share of it, at what it came to.
fn unused(statement: &Statement, pool: &PoolName, account: &Account, micros: i64) -> Nature {
    let sku_id = format!("{}/{pool}/unused", statement.site());
    let sku_price_id = format!("{sku_id}@{}/{}/{micros}", statement.period(), account.group_name);
    Nature::Usage(Priced {
        sku_id,
        sku_price_id,
        meter: "Unused capacity".to_owned(),
        details: BTreeMap::new(),
        pricing: Pricing::Standard,
        list_unit_micros: micros,
        contracted_unit_micros: micros,
        quantity: Quantity::whole(1),
        unit: "Months".to_owned(),
        consumed: Some((Quantity::ZERO, GPU_HOURS.to_owned())),
    })
}

fn describe(statement: &Statement, pool: Option<&PoolName>) -> String {
    let (site, period) = (statement.site(), statement.period());
    match (statement.kind(), pool) {
        (StatementKind::PoolClose, Some(pool)) => {
            format!("What nobody used of {pool} at {site} in {period}")
        }
        (StatementKind::PoolClose, None) => format!("Cost of {site} in {period} beside its rates"),
        (StatementKind::Reconciliation, _) => format!("Bill for {site} in {period} against what was charged"),
    }
}
