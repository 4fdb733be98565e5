//! What is made of the ledger's entries at a start where an older version left it out: the charges and their roll-ups.

use spillway_ledger::journal::Fact;
use spillway_ledger::rollup::{Charge, Rollup};
use spillway_types::UnixMs;
use sqlx::SqlSafeStr as _;

use super::{Transaction, Verb, Writer, run_rows};
use crate::batch::Rows;
use crate::charge::{ChargeRow, charge_row, share_row};
use crate::sql::{Row, Value};
use crate::target::Target;
use crate::{StoreError, load, rollup, tables};

/// Entries that are read at a time.
const PAGE: &str = "SELECT chain_seq, journal_seq, effective_ms, recorded_ms, booked, body FROM ledger_entries \
    WHERE chain_seq > $1 ORDER BY chain_seq LIMIT 4096";

impl Writer {
    /// Makes charges and roll-ups anew from the entries, in one transaction, where there are charges and no roll-up
    /// of them.
    pub(crate) async fn make_rollups(&mut self) -> Result<(), StoreError> {
        let missing = "SELECT CAST(COUNT(*) AS BIGINT) FROM (SELECT 1 AS one FROM charges LIMIT 1) AS charged \
            WHERE NOT EXISTS (SELECT 1 FROM spend_days)";
        let rows = self.fetch(missing).await?;
        let missing =
            rows.first().map_or(Ok(0), |row| row.int(0)).map_err(|error| self.target.sqlx(error))?;
        if missing == 0 {
            return Ok(());
        }
        tracing::info!("charges and their roll-ups are made from the ledger's entries, once");
        match self.remake().await {
            Ok(()) => {
                self.transaction = Transaction::None;
                Ok(())
            }
            Err(error) => {
                self.roll_back().await;
                Err(error)
            }
        }
    }

    async fn remake(&mut self) -> Result<(), StoreError> {
        let Self { connection: Some(connection), statements, transaction, target, .. } = self else {
            return Err(self.target.sqlx(sqlx::Error::PoolClosed));
        };
        let failed = |error| target.sqlx(error);
        *transaction = Transaction::Open;
        for sql in [
            "BEGIN",
            "DELETE FROM charges",
            "DELETE FROM spend_days",
            "DELETE FROM spend_months",
            "DELETE FROM spend_datasets",
        ] {
            connection.execute(sql.into_sql_str(), vec![]).await.map_err(failed)?;
        }
        let (mut after, mut rollup) = (0, Rollup::new());
        loop {
            let page = connection.fetch(PAGE.into_sql_str(), vec![after.into()]).await.map_err(failed)?;
            let Some(last) = page.last() else { break };
            after = last.int(0).map_err(failed)?;
            let mut values = vec![];
            for row in &page {
                for (row, charge) in charged(target, row)? {
                    values.extend(row);
                    rollup.add(charge);
                }
            }
            let rows = Rows { table: &tables::CHARGES, values };
            run_rows(connection, statements, Verb::Insert, rows).await.map_err(failed)?;
        }
        for rows in rollup::rows(&rollup).map_err(|what| target.other(what))? {
            run_rows(connection, statements, Verb::Insert, rows).await.map_err(failed)?;
        }
        connection.execute("COMMIT".into_sql_str(), vec![]).await.map_err(failed)
    }
}

/// What the record of a row charges, with its rows among the charges; none where it only reserves money.
fn charged(target: &Target, row: &Row) -> Result<Vec<(Vec<Value>, Charge)>, StoreError> {
    let int = |column| row.int(column).map_err(|error| target.sqlx(error));
    let text = |column| row.text(column).map_err(|error| target.sqlx(error));
    let (effective_at, recorded_at) = (UnixMs(int(2)?), UnixMs(int(3)?));
    let booked = text(4)?.parse().map_err(|error| target.corrupt(error))?;
    let fact: Fact = load::parse(target, &text(5)?)?;
    let (chain_seq, posted) = (int(0)?, (int(1)?, recorded_at));
    let row = |charge: Charge| {
        let row: ChargeRow = match &fact {
            Fact::Entry(entry) => charge_row(posted, entry, effective_at, &charge),
            Fact::Statement(statement) => Ok(share_row(posted, statement, effective_at, &charge)),
        }?;
        Ok((row.numbered(chain_seq).collect(), charge))
    };
    let charges = Charge::of_fact(&fact, effective_at, booked).into_iter().map(row);
    charges.collect::<Result<_, String>>().map_err(|what| target.other(what))
}
