//! A run as a page: a sequence diagram over virtual time that needs nothing but a browser.
//!
//! Actors are vertical lines, packets are arrows between them, operations of the plan and faults are marks on their
//! actor's line, and the broken rule stands at its place. Clients can be switched off, kinds of notes too.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use crate::engine::{Lane, Mark, Note, Outcome};
use crate::model::RULES;
use crate::plan::Plan;

/// Most notes on a page; of a longer run the last ones are shown, where the broken rule is.
const MOST_NOTES: usize = 5_000;

/// The page of a run that was traced.
#[must_use]
pub fn render(plan: &Plan, outcome: &Outcome) -> String {
    let skipped = outcome.notes.len().saturating_sub(MOST_NOTES);
    let notes = merge(outcome.notes.get(skipped..).unwrap_or_default());
    let lanes = lanes(&notes);
    let mut page = String::from(HEAD);
    let verdict = match &outcome.violation {
        Some(violation) => {
            let rule = RULES
                .iter()
                .find(|(id, _)| *id == violation.id)
                .map_or("", |(_, text)| text);
            format!(
                "<p class=bad><b>{}</b> {}<br>{}</p>",
                violation.id,
                escape(rule),
                escape(&violation.to_string())
            )
        }
        None => "<p class=good>no rule broken</p>".to_string(),
    };
    let seconds = outcome.nanos as f64 / 1e9;
    let _ = write!(
        page,
        "<header><h1>Voltlane, simulated</h1>{verdict}<p>seed {}, {seconds:.3} s of virtual time, {} calls \
        of the edge, trace hash <code>{:016x}</code></p>",
        plan.options.seed, outcome.steps, outcome.hash
    );
    if skipped > 0 {
        let _ = write!(page, "<p>The first {skipped} notes are left out.</p>");
    }
    page.push_str("<p class=filters>");
    for lane in &lanes {
        if let Lane::Client(number) = lane {
            let _ = write!(
                page,
                "<label><input type=checkbox checked data-client={number}> client {number}</label> "
            );
        }
    }
    for (class, name) in [
        ("packet", "packets"),
        ("connection", "connections"),
        ("fault", "operations"),
        ("time", "time"),
    ] {
        let _ = write!(
            page,
            "<label><input type=checkbox checked data-kind={class}> {name}</label> "
        );
    }
    let _ = write!(
        page,
        "</p><details><summary>the plan</summary><pre>{}</pre></details></header>",
        escape(&plan.to_string())
    );
    page.push_str("<table><thead><tr><th class=at>time</th>");
    for lane in &lanes {
        let _ = write!(page, "<th{}>{lane}</th>", client_of(*lane, *lane));
    }
    page.push_str("</tr></thead><tbody>");
    let mut last = None;
    for note in &notes {
        row(&mut page, note, &lanes, last);
        last = Some(note.at_nanos);
    }
    page.push_str("</tbody></table>");
    page.push_str(TAIL);
    page
}

/// Many like notes in a row, which small reads and writes make, become one.
fn merge(notes: &[Note]) -> Vec<Note> {
    let mut merged: Vec<(Note, usize)> = Vec::new();
    for note in notes {
        match merged.last_mut() {
            Some((last, count))
                if note.mark == Mark::Packet
                    && (last.from, last.to, last.mark, last.at_nanos)
                        == (note.from, note.to, note.mark, note.at_nanos) =>
            {
                *count += 1;
                if *count <= 3 {
                    last.text = format!("{}; {}", last.text, note.text);
                }
            }
            _ => merged.push((note.clone(), 1)),
        }
    }
    let tell = |(mut note, count): (Note, usize)| {
        if count > 3 {
            note.text = format!("{} … {count} in all", note.text);
        }
        note
    };
    merged.into_iter().map(tell).collect()
}

fn lanes(notes: &[Note]) -> Vec<Lane> {
    let met: BTreeSet<Lane> = notes.iter().flat_map(|note| [note.from, note.to]).collect();
    let mut lanes: Vec<Lane> = met
        .into_iter()
        .filter(|lane| matches!(lane, Lane::Client(_)))
        .collect();
    lanes.extend([Lane::Edge, Lane::Backend]);
    lanes
}

fn row(page: &mut String, note: &Note, lanes: &[Lane], last: Option<u64>) {
    let class = match note.mark {
        Mark::Packet => "packet",
        Mark::Connection => "connection",
        Mark::Fault => "fault",
        Mark::Time => "time",
        Mark::Violation => "violation",
    };
    let _ = write!(
        page,
        "<tr class={class}{}><td class=at>",
        client_of(note.from, note.to)
    );
    if last != Some(note.at_nanos) {
        let _ = write!(page, "{:.6}", note.at_nanos as f64 / 1e9);
    }
    page.push_str("</td>");
    let place = |lane: Lane| lanes.iter().position(|other| *other == lane).unwrap_or(0);
    let (from, to) = (place(note.from), place(note.to));
    let (left, right) = (from.min(to), from.max(to));
    for _ in 0..left {
        page.push_str("<td class=line></td>");
    }
    let arrow = match from.cmp(&to) {
        std::cmp::Ordering::Less => " right",
        std::cmp::Ordering::Greater => " left",
        std::cmp::Ordering::Equal => " here",
    };
    let span = right - left + 1;
    let _ = write!(
        page,
        "<td colspan={span} class='note{arrow}'><span>{}</span></td>",
        escape(&note.text)
    );
    for _ in right + 1..lanes.len() {
        page.push_str("<td class=line></td>");
    }
    page.push_str("</tr>");
}

/// The attribute by which the filters find a client's rows.
fn client_of(from: Lane, to: Lane) -> String {
    match (from, to) {
        (Lane::Client(number), _) | (_, Lane::Client(number)) => format!(" data-of={number}"),
        _ => String::new(),
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

const HEAD: &str = "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>
<title>Voltlane, simulated</title><style>
:root { --ink: #1b2430; --faint: #8b97a5; --line: #cfd7e0; --packet: #1f6feb; --fault: #b45309; --bad: #b91c1c;
--good: #15803d }
body { font: 13px/1.35 system-ui, sans-serif; color: var(--ink); margin: 0 }
header { padding: 12px 16px } h1 { font-size: 17px; margin: 0 0 6px } header p { margin: 4px 0 }
.bad { color: var(--bad) } .good { color: var(--good) } .filters label { margin-right: 10px; white-space: nowrap }
pre { max-height: 40vh; overflow: auto; background: #f5f7f9; padding: 8px }
table { border-collapse: collapse; width: 100%; table-layout: fixed; min-width: 720px }
th { position: sticky; top: 0; background: #fff; border-bottom: 2px solid var(--line); padding: 6px 4px;
font-weight: 600 }
.at { width: 92px; text-align: right; color: var(--faint); font-variant-numeric: tabular-nums; padding: 0 8px }
td { height: 20px; padding: 0 }
td.line { background: linear-gradient(var(--line), var(--line)) center/1px 100% no-repeat }
td.note { text-align: center; position: relative }
td.note span { background: #fff; padding: 0 5px; border-radius: 3px; position: relative }

td.right, td.left { background: linear-gradient(var(--packet), var(--packet)) center 50%/calc(100% - 24px) 1px no-repeat }
td.right::after, td.left::before { content: ''; position: absolute; top: 50%; margin-top: -4px;
border: 4px solid transparent }
td.right::after { right: 8px; border-left-color: var(--packet) }
td.left::before { left: 8px; border-right-color: var(--packet) }
.packet span { color: var(--packet) } .connection span { font-weight: 600 } .time span { color: var(--faint) }
.fault span { color: #fff; background: var(--fault) }
.violation span { color: #fff; background: var(--bad); font-weight: 600 }
tr.violation td { height: 34px } tr.off, tr.kindoff { display: none }
</style>";

const TAIL: &str = "<script>
const all = (q) => [...document.querySelectorAll(q)];
all('input[data-client]').forEach((box) => box.onchange = () =>
  all(`tr[data-of='${box.dataset.client}']`).forEach((row) => row.classList.toggle('off', !box.checked)));
all('input[data-kind]').forEach((box) => box.onchange = () =>
  all('tr.' + box.dataset.kind).forEach((row) => row.classList.toggle('kindoff', !box.checked)));
const bad = document.querySelector('tr.violation'); if (bad) bad.scrollIntoView({ block: 'center' });
</script></html>";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::run_traced;
    use crate::plan::generate;

    #[test]
    fn a_page_shows_every_lane_and_is_whole() {
        let plan = generate(3);
        let page = render(&plan, &run_traced(&plan));
        assert!(page.starts_with("<!doctype html>") && page.ends_with("</html>"));
        assert!(page.contains("<th data-of=0>client 0</th>") && page.contains("<th>backend</th>"));
        assert_eq!(page.matches("<tr").count(), page.matches("</tr>").count());
        assert!(!page.contains("http"), "a page that needs nothing else");
    }
}
