//! The words that FOCUS allows in columns: categories, units, currencies.

/// `ChargeCategory`.
pub const CHARGE_CATEGORIES: [&str; 5] = ["Usage", "Purchase", "Tax", "Credit", "Adjustment"];
/// `ChargeClass`; a row that is no correction has none.
pub const CHARGE_CLASSES: [&str; 1] = ["Correction"];
/// `ChargeFrequency`.
pub const CHARGE_FREQUENCIES: [&str; 3] = ["One-Time", "Recurring", "Usage-Based"];
/// `PricingCategory`. Spot prices are `Dynamic`.
pub const PRICING_CATEGORIES: [&str; 4] = ["Standard", "Dynamic", "Committed", "Other"];
/// `CommitmentDiscountCategory`.
pub const COMMITMENT_CATEGORIES: [&str; 2] = ["Spend", "Usage"];
/// `CommitmentDiscountStatus`.
pub const COMMITMENT_STATUSES: [&str; 2] = ["Used", "Unused"];
/// `CapacityReservationStatus`.
pub const CAPACITY_STATUSES: [&str; 2] = ["Used", "Unused"];

/// `ServiceCategory`.
pub const SERVICE_CATEGORIES: [&str; 19] = [
    "AI and Machine Learning",
    "Analytics",
    "Business Applications",
    "Compute",
    "Databases",
    "Developer Tools",
    "Identity",
    "Integration",
    "Internet of Things",
    "Management and Governance",
    "Media",
    "Migration",
    "Mobile",
    "Multicloud",
    "Networking",
    "Other",
    "Security",
    "Storage",
    "Web",
];

/// `ServiceSubcategory` by `ServiceCategory`; beside these each category has `Other (CATEGORY)`.
const SUBCATEGORIES: [(&str, &[&str]); 17] = [
    (
        "AI and Machine Learning",
        &["AI Platforms", "Bots", "Generative AI", "Machine Learning", "Natural Language Processing"],
    ),
    (
        "Analytics",
        &["Analytics Platforms", "Business Intelligence", "Data Processing", "Search", "Streaming Analytics"],
    ),
    ("Business Applications", &["Productivity and Collaboration"]),
    (
        "Compute",
        &["Containers", "End User Computing", "Quantum Compute", "Serverless Compute", "Virtual Machines"],
    ),
    (
        "Databases",
        &[
            "Caching",
            "Data Warehouses",
            "Ledger Databases",
            "NoSQL Databases",
            "Relational Databases",
            "Time Series Databases",
        ],
    ),
    (
        "Developer Tools",
        &[
            "Continuous Integration and Deployment",
            "Developer Platforms",
            "Development Environments",
            "Quality Assurance",
            "Source Code Management",
        ],
    ),
    ("Identity", &["Identity and Access Management"]),
    ("Integration", &["API Management", "Messaging", "Workflow Orchestration"]),
    ("Internet of Things", &["IoT Analytics", "IoT Platforms"]),
    (
        "Management and Governance",
        &[
            "Architecture",
            "Compliance",
            "Cost Management",
            "Data Governance",
            "Disaster Recovery",
            "Endpoint Management",
            "Observability",
            "Support",
        ],
    ),
    ("Media", &["Content Creation", "Gaming", "Media Streaming", "Mixed Reality"]),
    ("Migration", &["Data Migration", "Resource Migration"]),
    ("Multicloud", &["Multicloud Integration"]),
    (
        "Networking",
        &[
            "Application Networking",
            "Content Delivery",
            "Network Connectivity",
            "Network Infrastructure",
            "Network Routing",
            "Network Security",
        ],
    ),
    ("Security", &["Secret Management", "Security Posture Management", "Threat Detection and Response"]),
    ("Storage", &["Backup Storage", "Block Storage", "File Storage", "Object Storage", "Storage Platforms"]),
    ("Web", &["Application Platforms"]),
];

/// Whether a subcategory belongs to a category.
#[must_use]
pub fn is_subcategory(category: &str, subcategory: &str) -> bool {
    if subcategory.strip_prefix("Other (").and_then(|rest| rest.strip_suffix(')')) == Some(category) {
        return true;
    }
    SUBCATEGORIES.iter().any(|(of, names)| *of == category && names.contains(&subcategory))
}

/// Codes of national currencies in ISO 4217, with those that went out of use in the last years. Codes of funds,
/// metals, and for tests are left out: nobody is billed in them.
const CURRENCIES: &str = "AED AFN ALL AMD ANG AOA ARS AUD AWG AZN BAM BBD BDT BGN BHD BIF BMD BND BOB BRL BSD BTN BWP \
    BYN BZD CAD CDF CHF CLP CNY COP CRC CUP CVE CZK DJF DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GNF \
    GTQ GYD HKD HNL HTG HUF IDR ILS INR IQD IRR ISK JMD JOD JPY KES KGS KHR KMF KPW KRW KWD KYD KZT LAK LBP LKR LRD \
    LSL LYD MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MYR MZN NAD NGN NIO NOK NPR NZD OMR PAB PEN PGK PHP PKR \
    PLN PYG QAR RON RSD RUB RWF SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP STN SVC SYP SZL THB TJS TMT TND TOP TRY \
    TTD TWD TZS UAH UGX USD UYU UZS VED VES VND VUV WST XAF XCD XCG XOF XPF YER ZAR ZMW ZWG ZWL";

/// Whether a text is the code of a currency that one can be billed in.
#[must_use]
pub fn is_currency(code: &str) -> bool {
    CURRENCIES.split_whitespace().any(|known| known == code)
}

/// Units of data; they have no plural.
const DATA_UNITS: [&str; 26] = [
    "b", "Kb", "Mb", "Gb", "Tb", "Pb", "Eb", "Kib", "Mib", "Gib", "Tib", "Pib", "Eib", "B", "KB", "MB", "GB",
    "TB", "PB", "EB", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB",
];

/// Units of time, singular.
const TIME_UNITS: [&str; 6] = ["Year", "Month", "Day", "Hour", "Minute", "Second"];

/// Whether a text is a unit: `Hours`, `GPU-Hours`, `GB/Month`, `1000 Requests`, `Units/3 Months`.
#[must_use]
pub fn is_unit(text: &str) -> bool {
    let (amount, per) = text.split_once('/').map_or((text, None), |(amount, per)| (amount, Some(per)));
    let amount = match amount.split_once(' ') {
        Some((number, unit)) if is_whole(number) => unit,
        Some(_) => return false,
        None => amount,
    };
    let fits = match amount.split_once('-') {
        Some((what, time)) => is_counted(what) && is_time(time, Grammar::Plural),
        None => is_counted(amount) && !is_time(amount, Grammar::Singular),
    };
    let per_fits = per.is_none_or(|per| match per.split_once(' ') {
        Some((number, time)) => is_whole(number) && is_time(time, Grammar::Plural),
        None => is_time(per, Grammar::Singular),
    });
    fits && per_fits
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Grammar {
    Singular,
    Plural,
}

fn is_whole(text: &str) -> bool {
    !text.is_empty() && !text.starts_with('0') && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn is_time(text: &str, grammar: Grammar) -> bool {
    let singular = match grammar {
        Grammar::Singular => text,
        Grammar::Plural => text.strip_suffix('s').unwrap_or_default(),
    };
    TIME_UNITS.contains(&singular)
}

/// A unit of data, or a noun that begins with a capital and has nothing but letters. A unit of time or data in
/// other letters (`hours`, `gb`, `HOURS`) is none.
fn is_counted(text: &str) -> bool {
    if DATA_UNITS.contains(&text) {
        return true;
    }
    let lower = text.to_ascii_lowercase();
    let spelt_wrong = DATA_UNITS.iter().any(|unit| unit.len() > 1 && unit.eq_ignore_ascii_case(text))
        || TIME_UNITS.iter().any(|unit| {
            let unit_lower = unit.to_ascii_lowercase();
            lower.strip_prefix(unit_lower.as_str()).is_some_and(|rest| matches!(rest, "" | "s"))
                && !text.starts_with(unit)
        });
    let letters = text.chars().all(|letter| letter.is_ascii_alphabetic());
    !spelt_wrong && letters && text.starts_with(|first: char| first.is_ascii_uppercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_told_from_what_is_none() {
        for unit in [
            "Hours",
            "GPU-Hours",
            "GB",
            "GB-Hours",
            "GB/Month",
            "Units/3 Months",
            "1000 Requests",
            "Requests/Second",
            "Tokens",
            "Months",
        ] {
            assert!(is_unit(unit), "{unit}");
        }
        for text in [
            "",
            "hours",
            "HOURS",
            "Hour",
            "hrs",
            "GPU hours",
            "GPU-Hour",
            "gb",
            "Gb/Months",
            "0 Requests",
            "1.5 Hours",
            "Hours/",
            "-Hours",
            "GB/month",
            "$/Hour",
        ] {
            assert!(!is_unit(text), "{text}");
        }
    }

    #[test]
    fn words_belong_together() {
        assert!(is_subcategory("Compute", "Virtual Machines"));
        assert!(is_subcategory("Mobile", "Other (Mobile)"));
        assert!(!is_subcategory("Storage", "Virtual Machines"));
        assert!(!is_subcategory("Compute", "Other (Storage)"));
        for (category, _) in SUBCATEGORIES {
            assert!(SERVICE_CATEGORIES.contains(&category), "{category}");
        }
        assert!(is_currency("EUR") && is_currency("XOF"));
        assert!(!is_currency("EURO") && !is_currency("XAU") && !is_currency("eur") && !is_currency(""));
    }
}
