//! One suite against both databases, and what is special to each of them.

mod cases;
mod ledger;
mod pools;
mod postgres;
mod reports;
mod sqlite;
mod world;

use spillway_tests::postgres::fresh_database;
use xtask::postgres::FreshDatabase;

/// A database of one test, gone with it.
struct TestDatabase {
    url: String,
    _keep: Keep,
}

enum Keep {
    Folder(#[expect(dead_code, reason = "held for what its end does")] tempfile::TempDir),
    Server(#[expect(dead_code, reason = "held for what its end does")] FreshDatabase<'static>),
}

impl TestDatabase {
    fn sqlite() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}", folder.path().join("spillway.db").display());
        Self { url, _keep: Keep::Folder(folder) }
    }

    /// None only where the quick profile allows to do without a server.
    fn postgres() -> Option<Self> {
        let database = fresh_database()?;
        Some(Self { url: database.url().to_owned(), _keep: Keep::Server(database) })
    }

    async fn open(&self) -> crate::Store {
        crate::Store::open(&self.url).await.unwrap()
    }
}

macro_rules! suite {
    ($($case:ident)+) => {
        mod on_sqlite {
            $(#[tokio::test]
            async fn $case() {
                super::cases::$case(&super::TestDatabase::sqlite()).await;
            })+
        }
        mod on_postgres {
            $(#[tokio::test]
            async fn $case() {
                let Some(database) = super::TestDatabase::postgres() else { return };
                super::cases::$case(&database).await;
            })+
        }
    };
}

suite! {
    an_empty_database_is_an_empty_state
    what_was_committed_is_loaded
    the_journal_gives_the_same_state
    a_restart_goes_on_where_it_ended
    a_failed_transaction_leaves_nothing
    a_dropped_commit_does_not_stop_the_next
    a_ledger_key_is_posted_once
    a_gap_in_the_journal_is_refused
    spend_adds_up
    every_report_reaches_the_total
    a_zone_moves_charges_between_buckets_only
    days_are_converted_at_their_own_rates
    reports_say_what_was_used
    roll_ups_are_made_again_and_compared
    roll_ups_of_an_older_version_are_made
    jobs_come_in_pages
    what_is_over_can_be_read
    forgotten_submissions_are_deleted
    a_large_batch_is_written_whole
    reads_go_on_while_writing
    a_second_broker_is_refused
    a_newer_or_other_schema_is_refused
    an_older_schema_is_brought_up_to_date
    a_damaged_row_is_named
    the_ledger_is_a_chain_that_verifies
    a_ledger_that_was_meddled_with_is_found
    a_period_closes_and_its_export_stays
    charges_say_what_was_used
    entries_of_an_older_version_are_linked
    a_closed_pool_is_in_the_chain_and_in_every_export
    shares_of_what_nobody_used_are_spend_of_groups
    use_of_an_older_version_is_filled_from_roll_ups
    what_is_posted_before_a_close_in_one_transaction_is_booked_before_it
    a_closed_store_says_so
}
