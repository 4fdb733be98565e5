//! Plain tables: a head in capitals, two spaces between columns, no lines.
//!
//! A table that is too wide for the terminal first leaves out the columns that can be spared, the rightmost
//! first, and then folds its cells; ids and numbers are never folded, as they are made to be copied.

use comfy_table::{CellAlignment, ColumnConstraint, ContentArrangement, Table as Grid, presets};

use crate::output::{Look, harmless};

/// Blanks between two columns.
const GAP: u16 = 2;

/// A table being filled.
#[derive(Debug)]
pub(crate) struct Table {
    width: Option<usize>,
    columns: Vec<Column>,
}

/// One column, top to bottom.
#[derive(Debug)]
struct Column {
    head: String,
    cells: Vec<String>,
    kind: Kind,
    spare: bool,
}

/// What a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Texts: aligned left, folded where they must be.
    Text,
    /// Ids and single words: aligned left, never folded.
    Id,
    /// Numbers: aligned right, never folded.
    Number,
}

impl Column {
    /// Reads a head: `>` is a column of numbers, `#` of ids or single words, `?` one that can be spared.
    fn new(head: &str) -> Self {
        let (spare, head) = head.strip_prefix('?').map_or((false, head), |rest| (true, rest));
        let (kind, head) = match (head.strip_prefix('>'), head.strip_prefix('#')) {
            (Some(rest), _) => (Kind::Number, rest),
            (None, Some(rest)) => (Kind::Id, rest),
            (None, None) => (Kind::Text, head),
        };
        Self { head: head.to_owned(), cells: Vec::new(), kind, spare }
    }

    fn width(&self) -> usize {
        let cells = self.cells.iter().map(|cell| cell.chars().count());
        cells.chain([self.head.len()]).max().unwrap_or(0) + usize::from(GAP)
    }
}

impl Table {
    /// An empty table with these heads. `>` before a head is a column of numbers, `#` of ids or single words, and `?` before
    /// that one that a narrow terminal leaves out.
    pub(crate) fn new(look: &Look, heads: &[&str]) -> Self {
        let width = look.width.filter(|_| !look.wide).map(usize::from);
        Self { width, columns: heads.iter().map(|head| Column::new(head)).collect() }
    }

    /// Adds a row; an empty cell is shown as `-`.
    pub(crate) fn row<const COLUMNS: usize>(&mut self, cells: [String; COLUMNS]) {
        self.row_of(cells.into());
    }

    /// The same for a number of columns known only when it runs.
    pub(crate) fn row_of(&mut self, cells: Vec<String>) {
        for (column, cell) in self.columns.iter_mut().zip(cells) {
            column.cells.push(if cell.is_empty() { "-".to_owned() } else { harmless(&cell) });
        }
    }

    /// The table as lines, without blanks at their ends.
    pub(crate) fn lines(mut self) -> String {
        while self.is_too_wide()
            && let Some(spare) = self.columns.iter().rposition(|column| column.spare)
        {
            self.columns.remove(spare);
        }
        let mut text = String::new();
        for line in self.grid().lines() {
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }

    fn is_too_wide(&self) -> bool {
        let needed: usize = self.columns.iter().map(Column::width).sum();
        self.width.is_some_and(|width| needed > width + usize::from(GAP))
    }

    fn grid(&self) -> Grid {
        let mut grid = Grid::new();
        grid.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
        if let Some(width) = self.width.filter(|_| self.is_too_wide()) {
            grid.set_content_arrangement(ContentArrangement::Dynamic);
            grid.set_width(u16::try_from(width).unwrap_or(u16::MAX));
        }
        grid.set_header(self.columns.iter().map(|column| &column.head));
        let rows = self.columns.first().map_or(0, |column| column.cells.len());
        for row in 0..rows {
            grid.add_row(self.columns.iter().filter_map(|column| column.cells.get(row)));
        }
        for (index, column) in self.columns.iter().enumerate() {
            if let Some(shown) = grid.column_mut(index) {
                shown.set_padding((0, GAP));
                if column.kind == Kind::Number {
                    shown.set_cell_alignment(CellAlignment::Right);
                }
                if column.kind != Kind::Text {
                    shown.set_constraint(ColumnConstraint::ContentWidth);
                }
            }
        }
        grid
    }
}

/// Lines of `name: value` with the values below each other; absent values are left out.
pub(crate) fn facts(rows: &[(&str, Option<String>)]) -> String {
    let present = || rows.iter().filter_map(|(name, value)| Some((name, value.as_ref()?)));
    let width = present().map(|(name, _)| name.len()).max().unwrap_or(0) + 1;
    present().map(|(name, value)| format!("{:width$} {}\n", format!("{name}:"), harmless(value))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use spillway_types::UnixMs;

    fn drawn(width: Option<u16>) -> String {
        let look = Look { wide: false, width, now: UnixMs(0) };
        let mut table = Table::new(&look, &["#ID", "?SPARE", "TEXT", ">NUMBER"]);
        table.row(["id-0123456789".into(), "spared".into(), "some longer text".into(), "12.50".into()]);
        table.lines()
    }

    #[test]
    fn narrow_tables_spare_columns_then_fold_texts_and_never_ids_or_numbers() {
        for width in [None, Some(80), Some(40), Some(32)] {
            let text = drawn(width);
            assert!(text.contains("id-0123456789") && text.contains("12.50"), "{text}");
            assert_eq!(text.contains("SPARE"), width.is_none_or(|width| width >= 80), "{text}");
            assert_eq!(text.contains("some longer text"), width.is_none_or(|width| width >= 40), "{text}");
            let widest = text.lines().map(str::len).max().expect("lines");
            assert!(widest <= width.map_or(usize::MAX, usize::from), "{width:?}\n{text}");
        }
    }
}
