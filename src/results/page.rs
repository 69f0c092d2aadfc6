//! The report as one self-contained page: tables, pictures and settings, without scripts or other files.

use super::pictures::Picture;
use super::rows::{RunEnd, RunRow};
use super::table::ResultTable;
use super::units::{bytes, measure, seconds};
use anyhow::Result;

/// Wide enough for a table on a screen; in print a picture is not split between pages.
const STYLE: &str = "
  body { font: 16px/1.45 system-ui, sans-serif; color: #222; max-width: 1280px; margin: 2em auto; padding: 0 1em; }
  h1 { font-size: 1.6em; } h2 { font-size: 1.2em; margin-top: 2.2em; }
  .wide { overflow-x: auto; }
  table { border-collapse: collapse; font-size: 13px; font-variant-numeric: tabular-nums; }
  th, td { padding: 0.3em 0.6em; text-align: right; border-bottom: 1px solid #ddd; white-space: nowrap; }
  th:first-child, td:first-child, td.text { text-align: left; }
  td.text { white-space: normal; min-width: 16em; }
  thead th { border-bottom: 2px solid #222; }
  figure { margin: 1em 0 2.5em; } p.note { max-width: 60em; } svg { max-width: 100%; height: auto; }
  pre { background: #f4f4f4; padding: 1em; font-size: 13px; white-space: pre-wrap; overflow-wrap: anywhere; }
  p.note { color: #555; margin: 0.3em 0; font-size: 14px; }
  @media print {
    body { margin: 0; max-width: none; font-size: 10pt; }
    .wide { overflow: visible; } table { font-size: 7pt; } th, td { padding: 0.2em 0.35em; }
    figure, tr { break-inside: avoid; } h2 { break-after: avoid; } thead { display: table-header-group; }
  }
";

/// The page's text.
///
/// # Errors
/// None for pictures that can be drawn.
pub fn html(
    rows: &[RunRow],
    table: &ResultTable,
    pictures: &[Picture],
    settings: &str,
) -> Result<String> {
    let mut page = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>bitfit sweep</title>\n\
         <style>{STYLE}</style>\n</head>\n<body>\n<h1>Results of a sweep</h1>\n"
    );
    let heading: Vec<&str> = table.heading.iter().map(String::as_str).collect();
    push_table(&mut page, &heading, &table.rows, &[]);
    for note in &table.notes {
        page += &format!("<p class=\"note\">{}</p>\n", escaped(note));
    }
    for picture in pictures {
        let svg = picture.canvas.svg()?;
        page += &format!(
            "<figure role=\"img\" aria-label=\"{}\">\n{}\n</figure>\n",
            escaped(&picture.title),
            svg.trim()
        );
    }
    page += "<h2>Runs</h2>\n";
    let heading = [
        "run", "outcome", "rate", "seed", "rows", "steps", "dev", "train", "memory", "time", "why",
    ];
    let runs: Vec<_> = rows.iter().map(cells).collect();
    push_table(&mut page, &heading, &runs, &["why"]);
    // Settings of single runs are in the table.
    let shared = settings.split("[[run]]").next().unwrap_or_default().trim();
    page += &format!("<h2>Settings of all runs</h2>\n<pre>{}</pre>\n", escaped(shared));
    page += "</body>\n</html>\n";
    Ok(page)
}

fn cells(row: &RunRow) -> Vec<String> {
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    let value = |value: Option<f64>| or_dash(value.map(measure));
    let outcome = match row.outcome {
        RunEnd::Done => "done",
        RunEnd::Diverged => "diverged",
        RunEnd::Failed => "failed",
    };
    vec![
        row.run.clone(),
        outcome.to_owned(),
        or_dash(row.lr.map(crate::words::short)),
        row.seed.to_string(),
        or_dash(row.train_rows.map(|rows| rows.to_string())),
        or_dash(row.steps.map(|steps| steps.to_string())),
        value(row.dev),
        value(row.train),
        or_dash(row.allocated_bytes.map(bytes)),
        or_dash(row.seconds.map(seconds)),
        row.why.clone().unwrap_or_default(),
    ]
}

/// Columns in `texts` are text, the others are numbers to compare.
fn push_table(page: &mut String, heading: &[&str], rows: &[Vec<String>], texts: &[&str]) {
    *page += "<div class=\"wide\"><table>\n<thead><tr>";
    for name in heading {
        *page += &format!("<th>{}</th>", escaped(name));
    }
    *page += "</tr></thead>\n<tbody>\n";
    for row in rows {
        *page += "<tr>";
        for (name, cell) in heading.iter().zip(row) {
            let class = if texts.contains(name) { " class=\"text\"" } else { "" };
            *page += &format!("<td{class}>{}</td>", escaped(cell));
        }
        *page += "</tr>\n";
    }
    *page += "</tbody>\n</table></div>\n";
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => out += "&amp;",
            '<' => out += "&lt;",
            '>' => out += "&gt;",
            '"' => out += "&quot;",
            other => out.push(other),
        }
    }
    out
}
