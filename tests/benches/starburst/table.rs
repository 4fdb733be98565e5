//! The whole comparison for people.

use super::Row;

const HEAD: [&str; 8] = [
    "jobs",
    "scheduler",
    "cloud GPU-h",
    "published",
    "to Starburst",
    "avg wait h",
    "longest h",
    "price of an hour",
];

/// Says the table on stderr.
pub(super) fn show(rows: &[Row]) {
    let lines = std::iter::once(HEAD.map(str::to_owned)).chain(rows.iter().map(cells));
    let lines: Vec<[String; 8]> = lines.collect();
    let mut last = String::new();
    for line in &lines {
        let mut said = String::from("   ");
        for (at, cell) in line.iter().enumerate() {
            let width = lines.iter().map(|line| line[at].chars().count()).max().unwrap_or(0);
            let shown = if at == 0 && *cell == last { "" } else { cell };
            let padded = if at < 2 { format!(" {shown:<width$} ") } else { format!(" {shown:>width$} ") };
            said.push_str(&padded);
        }
        last.clone_from(&line[0]);
        xtask::step::say(said.trim_end());
    }
}

fn cells(row: &Row) -> [String; 8] {
    let or_none = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    [
        row.case.clone(),
        row.who.clone(),
        format!("{:.2}", row.cloud_gpu_hours),
        or_none(row.published.map(|(cloud, _)| format!("{cloud:.2}"))),
        format!("{:+.1} %", 100.0 * (row.cloud_gpu_hours / row.starburst - 1.0)),
        format!("{:.4}", row.wait_hours),
        format!("{:.2}", row.longest_wait_hours),
        or_none(row.price.map(|price| format!("{price:.2}"))),
    ]
}
