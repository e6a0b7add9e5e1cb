//! A run as a page: a sequence diagram over virtual time, for any browser.
//!
//! Actors are vertical lines and packets are arrows between them. Operations of the plan and faults are marks on their actor's line, and
//! the broken rule is shown where it happened. Clients and kinds of notes can be hidden.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use crate::engine::{Lane, Mark, Note, Outcome};
use crate::model::RULES;
use crate::plan::Plan;

/// The maximum number of notes on a page. Of a longer run the last ones are shown, where the broken rule is.
const MOST_NOTES: usize = 5_000;

/// Renders the page of a traced run.
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
        ("fault", "operations and faults"),
        ("time", "deadlines"),
    ] {
        let _ = write!(
            page,
            "<label><input type=checkbox checked data-kind={class}> {name}</label> "
        );
    }
    let _ = write!(
        page,
        "</p>{LEGEND}<details><summary>the plan</summary><pre>{}</pre></details></header>",
        escape(&plan.to_string())
    );
    let _ = write!(
        page,
        "<main style='--n:{}'><div class=heads><span class=at>seconds</span>",
        lanes.len()
    );
    for (place, lane) in lanes.iter().enumerate() {
        let of = client_of(*lane, *lane);
        let _ = write!(page, "<b style='--a:{place}'{of}>{lane}</b>");
    }
    page.push_str("</div><div class=run>");
    for (place, lane) in lanes.iter().enumerate() {
        let of = client_of(*lane, *lane);
        let _ = write!(page, "<i class=line style='--a:{place}'{of}></i>");
    }
    let mut last = None;
    for note in &notes {
        row(&mut page, note, &lanes, last);
        last = Some(note.at_nanos);
    }
    page.push_str("</div></main>");
    page.push_str(TAIL);
    page
}

/// Merges runs of similar notes, which small reads and writes cause.
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
        "<div class='row {class}'{}><span class=at>",
        client_of(note.from, note.to)
    );
    if last != Some(note.at_nanos) {
        let _ = write!(page, "{:.6}", note.at_nanos as f64 / 1e9);
    }
    page.push_str("</span>");
    let place = |lane: Lane| lanes.iter().position(|other| *other == lane).unwrap_or(0);
    let (from, to) = (place(note.from), place(note.to));
    let (left, right) = (from.min(to), from.max(to));
    let arrow = match from.cmp(&to) {
        std::cmp::Ordering::Less => "arrow right",
        std::cmp::Ordering::Greater => "arrow left",
        std::cmp::Ordering::Equal if note.mark == Mark::Violation => "broken",
        std::cmp::Ordering::Equal if left + 1 == lanes.len() => "here last",
        std::cmp::Ordering::Equal => "here",
    };
    let text = escape(&note.text);
    let _ = write!(
        page,
        "<span class='{arrow}' style='--a:{left};--b:{right}'><em title='{text}'>{text}</em></span></div>"
    );
}

/// Returns the attribute by which the filters find a client's rows.
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
        .replace('\'', "&#39;")
}

/// Explains the marks on the page.
const LEGEND: &str = "<details open class=legend><summary>legend</summary><ul>\
<li>Each column is an actor, time runs downwards; of several rows of one instant the first has the seconds.\
<li><span class=packet>Blue arrow</span>: bytes of a packet that an actor took; several at one instant are one arrow.\
<li><span class=connection>Dashed black arrow</span>: a connection is opened, ends in order or breaks.\
<li><span class=fault>Brown square</span>: an operation of the plan or a fault that it makes.\
<li><span class=time>Grey dot</span>: a deadline of the edge, or what became of a connection.\
<li><span class=rule>Red bar</span>: the rule of the model that was broken, where it was seen.</ul></details>";

const HEAD: &str = "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>
<title>Voltlane, simulated</title><style>
:root { --ink: #1b2430; --faint: #7a8694; --line: #c3ccd6; --packet: #1f6feb; --fault: #b45309; --bad: #b91c1c;
--good: #15803d; --at: 84px }
body { font: 12px/1.3 system-ui, sans-serif; color: var(--ink); margin: 0 }
header { padding: 12px 16px 4px; max-width: 1100px } h1 { font-size: 17px; margin: 0 0 6px } header p { margin: 4px 0 }
.bad { color: var(--bad); border-left: 4px solid; padding-left: 8px } .good { color: var(--good) }
.filters label { margin-right: 10px; white-space: nowrap }
pre { max-height: 40vh; overflow: auto; background: #f5f7f9; padding: 8px }
main { min-width: 760px; --col: calc((100% - var(--at)) / var(--n)) }
.heads { position: sticky; top: 0; background: #fff; height: 30px; border-bottom: 1px solid var(--line); z-index: 3 }
.heads b { position: absolute; top: 6px; left: calc(var(--at) + var(--col) * var(--a)); width: var(--col);
text-align: center }
.run { position: relative; padding: 6px 0 24px }
.line { position: absolute; top: 0; bottom: 0; left: calc(var(--at) + var(--col) * (var(--a) + .5)); width: 1px;
background: var(--line) }
.row { position: relative; height: 27px }
.row:hover { background: #1f6feb14 }
.at { position: absolute; left: 0; bottom: 4px; width: calc(var(--at) - 12px); text-align: right; color: var(--faint);
font-variant-numeric: tabular-nums }
.arrow { position: absolute; left: calc(var(--at) + var(--col) * (var(--a) + .5)); bottom: 6px;
width: calc(var(--col) * (var(--b) - var(--a))); height: 19px; border-bottom: 1.5px solid; color: var(--packet);
text-align: center; box-sizing: border-box }
.arrow::after { content: ''; position: absolute; bottom: -5px; border: 4.5px solid transparent }
.right::after { right: 0; border-left: 8px solid; border-right: 0 }
.left::after { left: 0; border-right: 8px solid; border-left: 0 }
em { font-style: normal; display: inline-block; max-width: 100%; overflow: hidden; text-overflow: ellipsis;
white-space: nowrap; background: #fffffff0; padding: 0 4px; border-radius: 3px; vertical-align: bottom }
.here { position: absolute; bottom: 3px; left: calc(var(--at) + var(--col) * (var(--a) + .5) - 4px); height: 19px;
padding-left: 12px; max-width: calc(var(--col) * 2.4) }
.here::before { content: ''; position: absolute; left: 0; bottom: 5px; width: 9px; height: 9px; border-radius: 5px;
background: currentColor }
.last { left: auto; right: calc(var(--col) / 2 - 5px); padding: 0 12px 0 0 } .last::before { left: auto; right: 0 }
.connection .arrow { color: var(--ink); border-bottom-style: dashed; font-weight: 600 }
.packet .here { color: var(--packet) } .time .here, .connection .here { color: var(--faint) }
.fault .here { color: var(--fault); font-weight: 600 } .fault .here::before { border-radius: 0; transform: rotate(45deg) }
.violation { height: auto; margin: 8px 0 }
.broken { display: block; margin-left: var(--at); padding: 8px 12px; background: var(--bad); color: #fff; font-weight: 600 }
.broken em { background: none; white-space: normal; padding: 0 }
.legend ul { margin: 4px 0; padding-left: 18px } .legend .packet { color: var(--packet) }
.legend .connection { font-weight: 600 } .legend .fault { color: var(--fault); font-weight: 600 }
.legend .time { color: var(--faint) } .legend .rule { color: var(--bad); font-weight: 600 }
.off, .kindoff { display: none }
</style>";

const TAIL: &str = "<script>
const all = (q) => [...document.querySelectorAll(q)];
const client = (box) => all(`main [data-of='${box.dataset.client}']`).forEach((e) => e.classList.toggle('off', !box.checked));
const kind = (box) => all('.row.' + box.dataset.kind).forEach((e) => e.classList.toggle('kindoff', !box.checked));
all('input[data-client]').forEach((box) => { box.onchange = () => client(box); });
all('input[data-kind]').forEach((box) => { box.onchange = () => kind(box); kind(box); });
const bad = document.querySelector('.violation');
if (bad && !location.hash) bad.scrollIntoView({ block: 'center' });
</script></html>";
