//! A recording as a page: what a person wants to see of an incident, for any browser, light or dark, in one file.
//!
//! Above is the verdict of the replay, then how many connections, sessions and bytes there were over the time, then a line for each session
//! with its connections, then connections without a session, events, and the counters. It has numbers, reasons and addresses, and nothing of
//! any packet or key.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use voltlane_core::edge::{CloseReason, EndReason, Rejected};

use super::timeline::{Connection, MOST, PARTS, Part, Timeline};

/// The size of a chart, in its own units.
const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 110.0;

/// Renders the page of a recording that was run again. `name` is its file.
#[must_use]
pub fn render(name: &str, timeline: &Timeline) -> String {
    let mut page = String::from(HEAD);
    let verdict = match &timeline.difference {
        None => "<p class=good>Run again, event for event the same.</p>".to_owned(),
        Some(difference) => format!(
            "<p class=bad><b>The machine did something else</b> {}</p>",
            escape(&difference.to_string())
        ),
    };
    let end = match timeline.end() {
        "" => "It goes to the end of the edge.".to_owned(),
        end => format!("Its end: {end}."),
    };
    let begin = match timeline.begins_late {
        true => "It begins in the middle of a run: counters count from the start of the edge.",
        false => "",
    };
    let seconds = timeline.last.saturating_sub(timeline.first) as f64 / 1e9;
    let _ = write!(
        page,
        "<header><h1>Voltlane, recorded</h1>{verdict}<p><b>{}</b>: {} records of {seconds:.3} s. {begin} {end}</p>",
        escape(name),
        grouped(timeline.records)
    );
    tiles(&mut page, timeline);
    page.push_str("</header><main>");
    charts(&mut page, timeline);
    page.push_str(FILTER);
    lanes(&mut page, timeline);
    strangers(&mut page, timeline);
    events(&mut page, timeline);
    tables(&mut page, timeline);
    page.push_str("</main>");
    page.push_str(TAIL);
    page
}

/// The numbers to look at first.
fn tiles(page: &mut String, timeline: &Timeline) {
    let counters = &timeline.counters;
    let rejected: u64 = counters.rejected.iter().sum();
    let ended: u64 = counters.ended.iter().sum();
    page.push_str("<dl class=tiles>");
    for (name, number) in [
        ("connections", counters.accepted),
        ("turned away", rejected),
        ("sessions begun", counters.joined),
        ("resumed", counters.resumed),
        ("ended", ended),
        ("packets up", counters.packets_up),
        ("packets down", counters.packets_down),
        ("link up", counters.link_up),
        ("link down", counters.link_down),
    ] {
        let _ = write!(
            page,
            "<div><dt>{name}</dt><dd>{}</dd></div>",
            grouped(number)
        );
    }
    page.push_str("</dl>");
}

/// A line of a chart: its name, its class, and its value in a part of the time.
type Line<'a> = (&'a str, &'a str, &'a dyn Fn(&Part) -> f64);

fn charts(page: &mut String, timeline: &Timeline) {
    let mut parts = timeline.parts.clone();
    // Where nothing happened the state is that of the part before.
    let mut last = Part::default();
    for part in &mut parts {
        if !part.is_seen {
            *part = Part {
                bytes_up: 0,
                bytes_down: 0,
                ..last
            };
        }
        last = *part;
    }
    let each = timeline.last.saturating_sub(timeline.first) as f64 / 1e9 / PARTS as f64;
    page.push_str("<section class=charts>");
    let count: [Line<'_>; 3] = [
        ("connections", "a", &|part| part.connections as f64),
        ("sessions", "b", &|part| part.sessions as f64),
        ("away", "c", &|part| part.away as f64),
    ];
    chart(page, "connections and sessions", &parts, &count);
    let bytes: [Line<'_>; 2] = [
        ("up", "a", &|part| part.bytes_up as f64 / each.max(1e-9)),
        ("down", "b", &|part| part.bytes_down as f64 / each.max(1e-9)),
    ];
    chart(page, "bytes a second of clients", &parts, &bytes);
    page.push_str("</section>");
}

fn chart(page: &mut String, title: &str, parts: &[Part], lines: &[Line<'_>]) {
    let values = lines
        .iter()
        .flat_map(|(_, _, value)| parts.iter().map(value));
    let most = values.fold(0.0, f64::max);
    let _ = write!(
        page,
        "<figure><figcaption>{title}, at most {}",
        rounded(most)
    );
    for (name, class, _) in lines {
        let _ = write!(page, " <span class='key {class}'>{name}</span>");
    }
    let _ = write!(
        page,
        "</figcaption><svg viewBox='0 0 {WIDTH} {HEIGHT}' preserveAspectRatio=none role=img aria-label='{title}'>"
    );
    for (_, class, value) in lines {
        let _ = write!(page, "<polyline class={class} points='");
        for (at, part) in parts.iter().enumerate() {
            let x = at as f64 * WIDTH / (parts.len() - 1).max(1) as f64;
            let y = HEIGHT - 4.0 - value(part) * (HEIGHT - 8.0) / most.max(1e-9);
            let _ = write!(page, "{x:.1},{y:.1} ");
        }
        page.push_str("'/>");
    }
    page.push_str("</svg></figure>");
}

/// A line for each session, with its connections.
fn lanes(page: &mut String, timeline: &Timeline) {
    let mut of: BTreeMap<usize, Vec<&Connection>> = BTreeMap::new();
    for connection in &timeline.connections {
        if let Some(session) = connection.session {
            of.entry(session).or_default().push(connection);
        }
    }
    let _ = write!(
        page,
        "<section><h2>Sessions <small>{}</small></h2>",
        left_out(timeline.sessions.len())
    );
    axis(page, timeline);
    let skipped = timeline.sessions.len().saturating_sub(MOST);
    for (index, session) in timeline.sessions.iter().enumerate().skip(skipped) {
        let connections = of.get(&index).map_or(&[][..], Vec::as_slice);
        let source = connections
            .last()
            .map_or("", |connection| connection.source.as_str());
        let end = match session.ended {
            Some(at) => format!("ended at {}: {}", moment(timeline, at), session.end),
            None => "still there".to_owned(),
        };
        let _ = write!(
            page,
            "<div class=lane><span class=who><code>{:016x}</code> v{} {}</span><span class=track>",
            session.id,
            session.version,
            escape(source)
        );
        let (left, width) = place(timeline, session.began, session.ended);
        let _ = write!(
            page,
            "<i class=life style='left:{left:.3}%;width:{width:.3}%'></i>"
        );
        for connection in connections {
            bar(page, timeline, connection);
        }
        let _ = write!(
            page,
            "</span><span class=end>{} connections, {}</span></div>",
            session.connections,
            escape(&end)
        );
    }
    page.push_str("</section>");
}

fn strangers(page: &mut String, timeline: &Timeline) {
    let all: Vec<_> = timeline
        .connections
        .iter()
        .filter(|connection| connection.session.is_none())
        .collect();
    if all.is_empty() {
        return;
    }
    let _ = write!(
        page,
        "<section><h2>Connections without a session <small>{}</small></h2>",
        left_out(all.len())
    );
    axis(page, timeline);
    for connection in &all[all.len().saturating_sub(MOST)..] {
        let _ = write!(
            page,
            "<div class=lane><span class=who>#{} {} at listener {}</span><span class=track>",
            connection.number,
            escape(&connection.source),
            connection.listener
        );
        bar(page, timeline, connection);
        let end = match connection.closed {
            Some(_) => connection.end.as_str(),
            None => "still open",
        };
        let _ = write!(page, "</span><span class=end>{}</span></div>", escape(end));
    }
    page.push_str("</section>");
}

/// The bar of a connection.
fn bar(page: &mut String, timeline: &Timeline, connection: &Connection) {
    let (left, width) = place(timeline, connection.opened, connection.closed);
    let class = match connection.end.as_str() {
        "" | "client ended" | "edge ended" | "replaced" | "session_ended" => "fine",
        "connection lost" => "lost",
        _ => "shut",
    };
    let closed = match connection.closed {
        Some(at) => format!("to {}, {}", moment(timeline, at), connection.end),
        None => "still open".to_owned(),
    };
    let how = match (connection.session.is_some(), connection.resumed) {
        (false, _) => "no session",
        (true, false) => "began the session",
        (true, true) => "resumed the session",
    };
    let _ = write!(
        page,
        "<b class={class} style='left:{left:.3}%;width:{width:.3}%' title='#{} from {}: {how}; {} bytes up, {} down; from {} {}'></b>",
        connection.number,
        escape(&connection.source),
        grouped(connection.bytes_in),
        grouped(connection.bytes_out),
        moment(timeline, connection.opened),
        escape(&closed)
    );
}

fn axis(page: &mut String, timeline: &Timeline) {
    page.push_str("<div class='lane axis'><span class=who></span><span class=track>");
    let whole = timeline.last.saturating_sub(timeline.first);
    for part in 0..=4 {
        let at = timeline.first + whole / 4 * part;
        let _ = write!(
            page,
            "<em style='left:{}%'>{}</em>",
            25 * part,
            moment(timeline, at)
        );
    }
    page.push_str("</span><span class=end></span></div>");
}

fn events(page: &mut String, timeline: &Timeline) {
    let _ = write!(
        page,
        "<section><h2>Events <small>{}</small></h2><table class=events>",
        left_out(timeline.events.len())
    );
    for event in &timeline.events[timeline.events.len().saturating_sub(MOST)..] {
        let _ = write!(
            page,
            "<tr class='event {0}'><td class=at>{1}</td><td class=kind>{0}</td><td>{2}</td></tr>",
            event.kind,
            moment(timeline, event.at),
            escape(&event.text)
        );
    }
    page.push_str("</table></section>");
}

/// What was counted, where that is not 0.
fn tables(page: &mut String, timeline: &Timeline) {
    let counters = &timeline.counters;
    page.push_str("<section class=tables>");
    let closed = CloseReason::ALL.iter().map(|reason| reason.name());
    table(page, "Closed by the edge", closed.zip(counters.closed));
    let ended = EndReason::ALL.iter().map(|reason| reason.name());
    table(page, "Sessions ended", ended.zip(counters.ended));
    let rejected = Rejected::ALL.iter().map(|reason| reason.name());
    table(page, "Turned away", rejected.zip(counters.rejected));
    let calls = timeline.calls.iter().map(|(name, count)| (*name, *count));
    table(page, "Calls of the machine", calls);
    page.push_str("</section>");
}

fn table<'a>(page: &mut String, title: &str, rows: impl Iterator<Item = (&'a str, u64)>) {
    let _ = write!(page, "<div><h2>{title}</h2><table>");
    let mut none = true;
    for (name, count) in rows.filter(|(_, count)| *count > 0) {
        none = false;
        let _ = write!(
            page,
            "<tr><td>{name}</td><td class=n>{}</td></tr>",
            grouped(count)
        );
    }
    if none {
        page.push_str("<tr><td>none</td></tr>");
    }
    page.push_str("</table></div>");
}

/// Returns where something begins, and how wide it is, in percent of the time.
fn place(timeline: &Timeline, from: u64, to: Option<u64>) -> (f64, f64) {
    let whole = timeline.last.saturating_sub(timeline.first).max(1) as f64;
    let of = |at: u64| at.saturating_sub(timeline.first) as f64 * 100.0 / whole;
    let left = of(from);
    (left, of(to.unwrap_or(timeline.last)) - left)
}

fn moment(timeline: &Timeline, at: u64) -> String {
    format!("{:.3} s", at.saturating_sub(timeline.first) as f64 / 1e9)
}

fn left_out(count: usize) -> String {
    match count.saturating_sub(MOST) {
        0 => grouped(count as u64),
        _ => format!(
            "the last {} of {}",
            grouped(MOST as u64),
            grouped(count as u64)
        ),
    }
}

/// Writes a number with a mark between thousands.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn rounded(number: f64) -> String {
    grouped(number.round() as u64)
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('\'', "&#39;")
}

const FILTER: &str = "<section class=filter><label>Filter <input id=filter type=search \
placeholder='an id, an address, a reason'></label> <span id=shown></span>\
<span class=legend><b class=fine></b> in order <b class=lost></b> lost <b class=shut></b> closed by the edge \
<i class=life></i> away</span></section>";

const HEAD: &str = "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>
<title>Voltlane, recorded</title><style>
:root { color-scheme: light dark; --ink: #1b2430; --faint: #586472; --line: #d5dce4; --back: #fff; --card: #f4f6f9; --a: #1f6feb;
--b: #15803d; --c: #b45309; --good: #15803d; --bad: #b91c1c }
@media (prefers-color-scheme: dark) { :root { --ink: #e6ebf1; --faint: #9aa7b5; --line: #323c48; --back: #11161d; --card: #1a212b;
--a: #6ea8fe; --b: #4ade80; --c: #fbbf24; --good: #4ade80; --bad: #f87171 } }
* { box-sizing: border-box } body { font: 14px/1.4 system-ui, sans-serif; color: var(--ink); background: var(--back); margin: 0 }
header, main { max-width: 1240px; margin: 0 auto; padding: 0 16px } header { padding-top: 16px }
h1 { font-size: 20px; margin: 0 0 8px } h2 { font-size: 15px; margin: 20px 0 6px } small { color: var(--faint); font-weight: 400 }
.good { color: var(--good) } .bad { color: var(--bad); border-left: 4px solid; padding-left: 8px }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(112px, 1fr)); gap: 8px; margin: 12px 0 }
.tiles div { background: var(--card); border-radius: 6px; padding: 8px 10px } dt { color: var(--faint); font-size: 12px }
dd { margin: 0; font-size: 18px; font-variant-numeric: tabular-nums }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(420px, 1fr)); gap: 12px } figure { margin: 0 }
figcaption { color: var(--faint); font-size: 12px; margin-bottom: 4px } svg { display: block; width: 100%; height: 110px;
background: var(--card); border-radius: 6px } polyline { fill: none; stroke-width: 1.6; vector-effect: non-scaling-stroke }
polyline.a { stroke: var(--a) } polyline.b { stroke: var(--b) } polyline.c { stroke: var(--c) }
.key { display: inline-block; white-space: nowrap }
.key::before { content: ''; display: inline-block; width: 14px; border-top: 3px solid; margin: 0 4px 3px 8px }
.key.a { color: var(--a) } .key.b { color: var(--b) } .key.c { color: var(--c) }
.filter { position: sticky; top: 0; background: var(--back); padding: 10px 0; border-bottom: 1px solid var(--line); z-index: 2;
display: flex; gap: 14px; align-items: center; flex-wrap: wrap; margin-top: 14px }
input { font: inherit; color: inherit; background: var(--card); border: 1px solid var(--line); border-radius: 6px; padding: 4px 8px;
width: 260px; max-width: calc(100vw - 96px) } header p { overflow-wrap: anywhere } .legend { margin-left: auto; color: var(--faint) } .legend b, .legend i { display: inline-block; width: 18px; height: 9px;
margin: 0 4px 0 10px; border-radius: 2px } #shown { color: var(--faint) }
.lane { display: grid; grid-template-columns: 310px 1fr 290px; gap: 10px; align-items: center; min-height: 22px; font-size: 12px;
border-bottom: 1px solid var(--line) } .lane:hover { background: var(--card) }
.who { overflow: hidden; text-overflow: ellipsis; white-space: nowrap } .end { color: var(--faint); overflow-wrap: anywhere }
.track { position: relative; height: 16px } .track b, .track i { position: absolute; min-width: 2px }
.track b { top: 3px; height: 10px; border-radius: 2px } .track i { top: 7px; height: 2px }
.fine { background: var(--a) } .lost { background: var(--c) } .shut { background: var(--bad) } .life { background: var(--faint) }
.legend .life { height: 2px; vertical-align: middle }
.axis { border: 0 } .axis:hover { background: none } .axis em { position: absolute; font-style: normal; color: var(--faint);
transform: translateX(-50%); white-space: nowrap } .axis em:first-child { transform: none } .axis em:last-child { transform: translateX(-100%) }
table { border-collapse: collapse; font-size: 12px } td { padding: 2px 10px 2px 0; vertical-align: top } .at, .n { text-align: right;
font-variant-numeric: tabular-nums } .at, .kind { color: var(--faint); white-space: nowrap } .difference td { color: var(--bad) }
.tables { display: flex; flex-wrap: wrap; gap: 8px 40px; padding-bottom: 40px } .off { display: none !important }
@media (max-width: 900px) { .lane { grid-template-columns: 1fr } .axis { display: none } .charts { grid-template-columns: 1fr } }
</style>";

const TAIL: &str = "<script>
const rows = [...document.querySelectorAll('.lane:not(.axis), .event')];
const texts = rows.map((row) => (row.textContent + ' ' + [...row.querySelectorAll('[title]')].map((e) => e.title).join(' ')).toLowerCase());
const box = document.getElementById('filter');
box.oninput = () => {
  const words = box.value.toLowerCase().split(/\\s+/).filter(Boolean);
  let shown = 0;
  rows.forEach((row, at) => {
    const on = words.every((word) => texts[at].includes(word));
    row.classList.toggle('off', !on);
    shown += on;
  });
  document.getElementById('shown').textContent = words.length ? `${shown} of ${rows.length}` : '';
};
</script></html>";
