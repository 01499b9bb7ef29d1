//! How results look on a terminal, and in a file.

use std::io::{IsTerminal as _, Write as _};

/// Prints a line; a closed pipe ends nothing.
pub(super) fn line(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// A line of progress.
pub(super) fn note(text: &str) {
    line(&format!("   {text}"));
}

/// Begins a lab.
pub(super) fn heading(number: usize, title: &str, about: &str) {
    line("");
    line(&paint("1", &format!("{number}  {title}")));
    for part in wrap(about, 100) {
        note(&part);
    }
}

/// A check, passed or not.
pub(super) fn check(holds: bool, what: &str) {
    line(&format!(
        "   {} {what}",
        if holds { paint("32", "✔") } else { paint("31", "✘") }
    ));
}

/// A share as a bar: `v1       ██████████████████·· 180/200  90 %`.
pub(super) fn bar(label: &str, part: usize, whole: usize) {
    const WIDTH: usize = 30;
    let filled = (part * WIDTH + whole / 2).checked_div(whole).unwrap_or(0).min(WIDTH);
    let percent = (part * 100).checked_div(whole).unwrap_or(0);
    line(&format!(
        "   {label:<28} {}{} {part:>4}/{whole:<4} {percent:>3} %",
        "█".repeat(filled),
        "·".repeat(WIDTH - filled)
    ));
}

/// What was measured beside what the study notes say.
pub(super) fn figures(rows: &[(String, String, &str)]) {
    line(&format!("   {:<36} {:>12}   STUDY NOTES", "FIGURE", "MEASURED"));
    for (what, measured, notes) in rows {
        line(&format!("   {what:<36} {measured:>12}   {notes}"));
    }
}

/// The summary.
pub(super) fn table(rows: &[(&'static str, String, bool)]) {
    line("");
    line(&format!("{:<18} RESULT", "LAB"));
    for (name, result, good) in rows {
        let result = if *good { result.clone() } else { paint("31", result) };
        line(&format!("{name:<18} {result}"));
    }
}

fn paint(code: &str, text: &str) -> String {
    if std::io::stdout().is_terminal() {
        format!("\x1b[{code}m{text}\x1b[0m")
    } else {
        text.to_owned()
    }
}

/// Breaks a text at blanks.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let last = lines.len() - 1;
        if !lines[last].is_empty() && lines[last].len() + word.len() >= width {
            lines.push(word.to_owned());
        } else {
            if !lines[last].is_empty() {
                lines[last].push(' ');
            }
            lines[last].push_str(word);
        }
    }
    lines
}
