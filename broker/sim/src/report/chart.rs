//! A chart as SVG: four panels over one time axis, a line for each policy. Light background, the colours of Okabe
//! and Ito (2008), which people with any colour vision can tell apart; no script, no font but the reader's own.

use super::axis::Axis;
use super::{Outcome, Point};

const WIDTH: f64 = 1100.0;
const LEFT: f64 = 92.0;
const RIGHT: f64 = 24.0;
/// From the top of the page to the legend.
const HEAD: f64 = 66.0;
/// Height of one line of the legend.
const LINE: f64 = 20.0;
/// Between two panels: room for the lower one's title.
const GAP: f64 = 44.0;
const PLOT_WIDTH: f64 = WIDTH - LEFT - RIGHT;

/// Blue, vermilion, green, orange, purple, sky blue, black, grey: eight lines are the most that can be told apart.
const COLOURS: [&str; 8] =
    ["#0072b2", "#d55e00", "#009e73", "#e69f00", "#cc79a7", "#56b4e9", "#000000", "#7f7f7f"];

/// How a line is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stroke {
    Solid,
    Dashed,
}

/// What is drawn of a step.
type Value = fn(&Point) -> f64;

/// One panel.
struct Panel {
    title: &'static str,
    unit: &'static str,
    height: f64,
    lines: &'static [(Value, Stroke)],
    /// Levels to compare with, and their names, the lowest first.
    levels: Vec<(f64, String)>,
    scale: f64,
}

/// Draws the runs, each with its name: load against the `gpus` of each federation, queue, spend and wait.
#[must_use]
pub fn chart(title: &str, gpus: &[u32], runs: &[(&str, &Outcome)]) -> String {
    let hours = runs.iter().filter_map(|(_, run)| run.curves.last()).map(|point| point.at_hours);
    let (axis, unit, name) = Axis::time(hours.fold(0.0, f64::max));
    let panels = panels(gpus, runs);
    let legend = HEAD + LINE * runs.len().div_ceil(names_in_a_line(runs)) as f64;
    let height: f64 = legend + panels.iter().map(|panel| panel.height + GAP).sum::<f64>() + 52.0;
    let mut page = Page { text: String::new(), axis, unit };
    page.add(&format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height:.0}\" width=\"{WIDTH}\" \
         height=\"{height:.0}\" font-family=\"system-ui, 'Segoe UI', Helvetica, Arial, sans-serif\" font-size=\"13\">"
    ));
    page.add(&format!("<title>{}</title>", escaped(title)));
    page.add(&format!("<rect width=\"{WIDTH}\" height=\"{height:.0}\" fill=\"#ffffff\"/>"));
    page.words(LEFT, 32.0, "font-size=\"18\" font-weight=\"600\" fill=\"#1a1a1a\"", title);
    page.legend(runs);
    let mut top = legend;
    for panel in &panels {
        top += GAP;
        page.panel(panel, top, runs);
        top += panel.height;
    }
    page.time_labels(top, name);
    page.add("</svg>");
    page.text
}

fn panels(gpus: &[u32], runs: &[(&str, &Outcome)]) -> [Panel; 4] {
    let longest = greatest(runs, |point| point.wait_hours);
    let (wait_unit, scale) = if longest < 1.0 { ("minutes", 60.0) } else { ("hours", 1.0) };
    let panel = |title, unit, lines| Panel { title, unit, height: 150.0, lines, levels: vec![], scale: 1.0 };
    let different: std::collections::BTreeSet<u32> = gpus.iter().copied().collect();
    let level = |gpus: u32| (f64::from(gpus), format!("{gpus} GPUs on-prem"));
    [
        Panel {
            height: 210.0,
            levels: different.into_iter().map(level).collect(),
            ..panel(
                "Load: GPUs in use on-prem (solid) and in the cloud (dashed)",
                "GPUs",
                &[(|point| point.local_gpus, Stroke::Solid), (|point| point.cloud_gpus, Stroke::Dashed)],
            )
        },
        panel("Queue: jobs that wait", "jobs", &[(|point| point.queued, Stroke::Solid)]),
        panel("Spend: cloud, so far", "USD", &[(|point| point.cloud_spent, Stroke::Solid)]),
        Panel {
            scale,
            ..panel(
                "Wait: average of the jobs started so far",
                wait_unit,
                &[(|point| point.wait_hours, Stroke::Solid)],
            )
        },
    ]
}

fn greatest(runs: &[(&str, &Outcome)], value: Value) -> f64 {
    runs.iter().flat_map(|(_, run)| &run.curves).map(value).fold(0.0, f64::max)
}

/// As many as have room.
fn names_in_a_line(runs: &[(&str, &Outcome)]) -> usize {
    if runs.iter().all(|(name, _)| name.chars().count() <= 12) { 3 } else { 2 }
}

fn colour(number: usize) -> &'static str {
    COLOURS.get(number % COLOURS.len()).copied().unwrap_or("#000000")
}

/// The page as far as it is drawn.
struct Page {
    text: String,
    axis: Axis,
    unit: f64,
}

impl Page {
    fn add(&mut self, element: &str) {
        self.text.push_str(element);
        self.text.push('\n');
    }

    fn words(&mut self, x: f64, y: f64, style: &str, words: &str) {
        self.add(&format!("<text x=\"{x:.1}\" y=\"{y:.1}\" {style}>{}</text>", escaped(words)));
    }

    fn line(&mut self, from: (f64, f64), to: (f64, f64), style: &str) {
        let ((x1, y1), (x2, y2)) = (from, to);
        self.add(&format!("<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" {style}/>"));
    }

    fn x(&self, hours: f64) -> f64 {
        LEFT + PLOT_WIDTH * (hours / self.unit / self.axis.end).clamp(0.0, 1.0)
    }

    fn legend(&mut self, runs: &[(&str, &Outcome)]) {
        let (mut x, mut y, columns) = (LEFT, HEAD - 6.0, names_in_a_line(runs));
        for (number, (name, run)) in runs.iter().enumerate() {
            let style = format!("stroke=\"{}\" stroke-width=\"3\"", colour(number));
            self.line((x, y - 4.0), (x + 26.0, y - 4.0), &style);
            let metrics = &run.metrics;
            let name: String = if name.chars().count() > 36 {
                name.chars().take(35).chain(['…']).collect()
            } else {
                (*name).to_owned()
            };
            let (gpu_hours, wait) = (metrics.cloud_gpu_hours, metrics.avg_wait_hours);
            let wait = if wait < 1.0 { format!("{:.1} min", wait * 60.0) } else { format!("{wait:.2} h") };
            let words = format!("{name}: {gpu_hours:.0} cloud GPU-h, {wait} wait");
            self.words(x + 34.0, y, "fill=\"#333333\"", &words);
            (x, y) = if number % columns == columns - 1 {
                (LEFT, y + LINE)
            } else {
                (x + PLOT_WIDTH / columns as f64, y)
            };
        }
    }

    fn panel(&mut self, panel: &Panel, top: f64, runs: &[(&str, &Outcome)]) {
        let values = panel.lines.iter().map(|(value, _)| greatest(runs, *value) * panel.scale);
        // With room for the name above the highest.
        let levels = panel.levels.iter().map(|(level, _)| *level * 1.08);
        let axis = Axis::round(values.chain(levels).fold(0.0, f64::max));
        let y = |value: f64| top + panel.height * (1.0 - (value / axis.end).clamp(0.0, 1.0));
        self.words(LEFT, top - 12.0, "font-weight=\"600\" fill=\"#1a1a1a\"", panel.title);
        for tick in axis.ticks() {
            self.line((LEFT, y(tick)), (LEFT + PLOT_WIDTH, y(tick)), "stroke=\"#e3e3e3\"");
            self.words(LEFT - 8.0, y(tick) + 4.0, "text-anchor=\"end\" fill=\"#555555\"", &axis.label(tick));
        }
        for tick in self.axis.ticks() {
            let x = self.x(tick * self.unit);
            self.line((x, top), (x, top + panel.height), "stroke=\"#f0f0f0\"");
        }
        let middle = top + panel.height / 2.0;
        let turned =
            format!("text-anchor=\"middle\" fill=\"#555555\" transform=\"rotate(-90 22 {middle:.1})\"");
        self.words(22.0, middle, &turned, panel.unit);
        for (number, (_, run)) in runs.iter().enumerate() {
            for (value, stroke) in panel.lines {
                self.curve(&run.curves, number, *stroke, &|point| y(value(point) * panel.scale));
            }
        }
        for (number, (level, name)) in panel.levels.iter().enumerate() {
            self.level(number, y(*level), name);
        }
        let style = "stroke=\"#888888\"";
        self.line((LEFT, top + panel.height), (LEFT + PLOT_WIDTH, top + panel.height), style);
    }

    /// A level with its name above it: at the right, the next one's at the left, so that close ones stay apart.
    fn level(&mut self, number: usize, y: f64, name: &str) {
        let right = LEFT + PLOT_WIDTH;
        self.line((LEFT, y), (right, y), "stroke=\"#555555\" stroke-width=\"1.2\"");
        let (x, anchor) = if number.is_multiple_of(2) { (right - 4.0, "end") } else { (LEFT + 6.0, "start") };
        let style = format!(
            "text-anchor=\"{anchor}\" font-size=\"12\" fill=\"#333333\" stroke=\"#ffffff\" stroke-width=\"4\" \
             paint-order=\"stroke\""
        );
        self.words(x, y - 5.0, &style, name);
    }

    fn curve(&mut self, points: &[Point], number: usize, stroke: Stroke, y: &dyn Fn(&Point) -> f64) {
        let mut path = String::new();
        for point in points {
            let pen = if path.is_empty() { 'M' } else { 'L' };
            path.push_str(&format!("{pen}{:.1} {:.1}", self.x(point.at_hours), y(point)));
        }
        let dash = match stroke {
            Stroke::Solid => "",
            Stroke::Dashed => " stroke-dasharray=\"5 3\"",
        };
        let colour = colour(number);
        self.add(&format!(
            "<path d=\"{path}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.6\" stroke-linejoin=\"round\"{dash}/>"
        ));
    }

    fn time_labels(&mut self, top: f64, name: &str) {
        for tick in self.axis.ticks() {
            let x = self.x(tick * self.unit);
            self.line((x, top), (x, top + 5.0), "stroke=\"#888888\"");
            let label = self.axis.label(tick);
            self.words(x, top + 20.0, "text-anchor=\"middle\" fill=\"#555555\"", &label);
        }
        let words = format!("{name} from the first arrival");
        self.words(LEFT + PLOT_WIDTH / 2.0, top + 40.0, "text-anchor=\"middle\" fill=\"#555555\"", &words);
    }
}

/// Text that is safe between tags and in attributes; XML knows no control characters.
fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            c if c.is_control() => safe.push('\u{fffd}'),
            c => safe.push(c),
        }
    }
    safe
}
