//! What the owner of a lent machine is credited.
//!
//! The owner gets a stated share of what borrowers are charged; the rest stays with the site for running the pool.
//! The share is taken of the cumulative charge, so that slices of any size credit the same.

use serde::{Deserialize, Serialize};
use spillway_types::{SiteName, UserName};

use crate::{Account, Posting};

/// Who owns a lent machine, and what of its charges is the owner's.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "Unchecked")]
pub struct Lending {
    owner: UserName,
    permille: u16,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Unchecked {
    owner: UserName,
    permille: u16,
}

/// Why a share cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the owner's share of what {owner} lends is {permille} per mille: give 0 to 1000")]
pub struct LendingError {
    /// The owner.
    pub owner: UserName,
    /// What was given.
    pub permille: u16,
}

impl TryFrom<Unchecked> for Lending {
    type Error = LendingError;

    fn try_from(raw: Unchecked) -> Result<Self, LendingError> {
        Self::new(raw.owner, raw.permille)
    }
}

impl Lending {
    /// The owner gets `permille` thousandths of what is charged.
    ///
    /// # Errors
    /// [`LendingError`] over 1000.
    pub fn new(owner: UserName, permille: u16) -> Result<Self, LendingError> {
        if permille > 1000 { Err(LendingError { owner, permille }) } else { Ok(Self { owner, permille }) }
    }

    /// Whose machine it is.
    #[must_use]
    pub const fn owner(&self) -> &UserName {
        &self.owner
    }

    /// Thousandths of what is charged that are the owner's.
    #[must_use]
    pub const fn permille(&self) -> u16 {
        self.permille
    }

    /// The credits of a charge of `micros`, after `before` micros were charged of the same attempt: the owner's
    /// first, then the site's. They sum to minus the charge; those of 0 are left out.
    #[must_use]
    pub fn credits(&self, site: &SiteName, before: i64, micros: i64) -> Vec<Posting> {
        let share = |sum: i128| sum * i128::from(self.permille) / 1000;
        let (before, after) = (i128::from(before), i128::from(before) + i128::from(micros));
        let owners = i64::try_from(share(after) - share(before)).unwrap_or(micros);
        let postings = [
            Posting { account: Account::Owner(self.owner.clone()), micros: -owners },
            Posting { account: Account::Revenue(site.clone()), micros: owners - micros },
        ];
        postings.into_iter().filter(|posting| posting.micros != 0).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn told(postings: &[Posting]) -> Vec<(String, i64)> {
        postings.iter().map(|posting| (posting.account.to_string(), posting.micros)).collect()
    }

    #[test]
    fn the_owner_gets_the_share_and_the_site_the_rest() {
        let site: SiteName = "desk".parse().unwrap();
        let lending = |permille| Lending::new("ada".parse().unwrap(), permille);
        let credits = lending(900).unwrap().credits(&site, 0, 1_000_001);
        assert_eq!(
            told(&credits),
            [("owner:ada".to_owned(), -900_000), ("revenue:desk".to_owned(), -100_001)]
        );
        assert_eq!(told(&lending(1000).unwrap().credits(&site, 5, 7)), [("owner:ada".to_owned(), -7)]);
        assert_eq!(told(&lending(0).unwrap().credits(&site, 5, 7)), [("revenue:desk".to_owned(), -7)]);
        assert!(lending(1001).unwrap_err().to_string().contains("1001 per mille: give 0 to 1000"));
        assert!(serde_json::from_str::<Lending>(r#"{"owner":"ada","permille":1001}"#).is_err());
    }

    proptest! {
        #[test]
        fn slices_of_any_size_credit_the_same(permille in 0_u16..=1000, charges in proptest::collection::vec(0_i64..1 << 40, 1..20)) {
            let lending = Lending::new("ada".parse().unwrap(), permille).unwrap();
            let site: SiteName = "desk".parse().unwrap();
            let owner = |postings: Vec<Posting>| -> i64 {
                postings.iter().filter(|it| matches!(it.account, Account::Owner(_))).map(|it| it.micros).sum()
            };
            let total: i64 = charges.iter().sum();
            let (mut before, mut credited) = (0, 0);
            for charge in &charges {
                let credits = lending.credits(&site, before, *charge);
                prop_assert_eq!(credits.iter().map(|it| it.micros).sum::<i64>(), -charge);
                credited += owner(credits);
                before += charge;
            }
            prop_assert_eq!(credited, owner(lending.credits(&site, 0, total)));
        }
    }
}
