//! The accounts of the ledger, and who is paid.
//!
//! A debit is positive, a credit negative. An account is stored and printed as one text, so that it can be a
//! key in JSON, a column in SQL and a name in a plain-text journal.

use std::fmt;
use std::str::FromStr;

use crate::rates::Lending;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use spillway_types::{CloudName, GroupName, PoolName, SiteName, UserName};

/// Where money is posted.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Account {
    /// What a group's unsettled attempts still reserve. Never below 0.
    Held(GroupName),
    /// The other side of all that is held; its balance is minus their sum.
    Committed,
    /// What a group has used.
    Spend(GroupName),
    /// What an on-prem or personal site has earned; a credit, so below 0.
    Revenue(SiteName),
    /// What is owed to a cloud for use at one of its sites; a credit, so below 0.
    Payable {
        /// The cloud account.
        cloud: CloudName,
        /// The site, for example a region.
        site: SiteName,
    },
    /// What the owner of a lent machine is credited; a credit, so below 0.
    Owner(UserName),
    /// What a pool cost while nobody used it.
    Idle(PoolName),
    /// By how much the cost of a site, or a provider's bill for it, differs from what was charged.
    Variance(SiteName),
}

/// Why a text is not an account.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{value}` is not an account: write `held:GROUP`, `committed`, `spend:GROUP`, `revenue:SITE`, \
     `payable:CLOUD:SITE`, `owner:USER`, `idle:POOL` or `variance:SITE`"
)]
pub struct AccountError {
    /// What was given, cut to 80 characters.
    pub value: String,
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Held(group) => write!(f, "held:{group}"),
            Self::Committed => f.write_str("committed"),
            Self::Spend(group) => write!(f, "spend:{group}"),
            Self::Revenue(site) => write!(f, "revenue:{site}"),
            Self::Payable { cloud, site } => write!(f, "payable:{cloud}:{site}"),
            Self::Owner(user) => write!(f, "owner:{user}"),
            Self::Idle(pool) => write!(f, "idle:{pool}"),
            Self::Variance(site) => write!(f, "variance:{site}"),
        }
    }
}

impl FromStr for Account {
    type Err = AccountError;

    fn from_str(text: &str) -> Result<Self, AccountError> {
        parse(text).ok_or_else(|| AccountError { value: text.chars().take(80).collect() })
    }
}

fn parse(text: &str) -> Option<Account> {
    let (head, rest) = match text.split_once(':') {
        None => return (text == "committed").then_some(Account::Committed),
        Some(parts) => parts,
    };
    match head {
        "held" => rest.parse().ok().map(Account::Held),
        "spend" => rest.parse().ok().map(Account::Spend),
        "revenue" => rest.parse().ok().map(Account::Revenue),
        "owner" => rest.parse().ok().map(Account::Owner),
        "idle" => rest.parse().ok().map(Account::Idle),
        "variance" => rest.parse().ok().map(Account::Variance),
        "payable" => {
            let (cloud, site) = rest.split_once(':')?;
            Some(Account::Payable { cloud: cloud.parse().ok()?, site: site.parse().ok()? })
        }
        _ => None,
    }
}

impl Serialize for Account {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Account {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Who is credited for use.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Payee {
    /// The owner of an on-prem or personal site.
    Site(SiteName),
    /// A cloud, for an instance at a site.
    Cloud {
        /// The cloud account.
        cloud: CloudName,
        /// The site, for example a region.
        site: SiteName,
    },
    /// A person who lends a machine, and the site that runs the pool.
    Lent {
        /// The site.
        site: SiteName,
        /// Who lends, and for which share.
        lending: Lending,
    },
}

impl Payee {
    /// Who is paid for what is used at a site: its cloud, where it is a region of one.
    #[must_use]
    pub fn at(site: SiteName, cloud: Option<CloudName>) -> Self {
        match cloud {
            Some(cloud) => Self::Cloud { cloud, site },
            None => Self::Site(site),
        }
    }

    /// The cloud and its region, where a cloud is paid.
    #[must_use]
    pub fn cloud(&self) -> Option<(CloudName, SiteName)> {
        match self {
            Self::Cloud { cloud, site } => Some((cloud.clone(), site.clone())),
            Self::Site(_) | Self::Lent { .. } => None,
        }
    }

    /// Who is credited how much of a charge of `micros`, after `before` micros were charged of the same attempt.
    pub(crate) fn credits(&self, before: i64, micros: i64) -> Vec<(Account, i64)> {
        match self {
            Self::Site(_) | Self::Cloud { .. } => vec![(self.account(), micros)],
            Self::Lent { site, lending } => {
                let credits = lending.credits(site, before, micros).into_iter();
                credits.map(|posting| (posting.account, -posting.micros)).collect()
            }
        }
    }

    /// The account that is credited; of a lent machine the site's.
    #[must_use]
    pub fn account(&self) -> Account {
        match self {
            Self::Site(site) | Self::Lent { site, .. } => Account::Revenue(site.clone()),
            Self::Cloud { cloud, site } => Account::Payable { cloud: cloud.clone(), site: site.clone() },
        }
    }
}

impl From<&Payee> for Account {
    fn from(payee: &Payee) -> Self {
        payee.account()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_round_trips_as_text_and_as_json() {
        for text in [
            "held:vision",
            "committed",
            "spend:vision",
            "revenue:seoul-dgx",
            "payable:aws:us-east-1",
            "owner:ada.b",
            "idle:dgx",
            "variance:seoul",
        ] {
            let account: Account = text.parse().unwrap();
            assert_eq!(account.to_string(), text);
            let json = serde_json::to_string(&account).unwrap();
            assert_eq!(json, format!("\"{text}\""));
            assert_eq!(serde_json::from_str::<Account>(&json).unwrap(), account);
        }
    }

    #[test]
    fn what_is_not_an_account_is_refused_by_name() {
        for wrong in
            ["", "held", "held:", "held:A", "committed:x", "payable:aws", "payable:aws:a:b", "idle:X"]
        {
            let error = wrong.parse::<Account>().unwrap_err();
            assert!(error.to_string().contains(&format!("`{wrong}`")), "{error}");
        }
    }

    #[test]
    fn a_payee_has_its_account() {
        let site = Payee::Site("seoul".parse().unwrap());
        let cloud = Payee::Cloud { cloud: "aws".parse().unwrap(), site: "us-east-1".parse().unwrap() };
        assert_eq!(Account::from(&site).to_string(), "revenue:seoul");
        assert_eq!(Account::from(&cloud).to_string(), "payable:aws:us-east-1");
    }
}
