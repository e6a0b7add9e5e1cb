//! Chromium, without a window. (SPEC 16.2)

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use conformance::others::{Group, find, node, script};
use conformance::page::Page;
use conformance::shim::Carriage;
use conformance::{Directory, PATIENCE, Process, Rig, bytes_of};

use super::{config, use_doors};

const FLAGS: [&str; 9] = [
    "--headless",
    // As root, which CI is, it has no sandbox.
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    // The tests' authority is none that it knows.
    "--ignore-certificate-errors",
];

/// A browser that shows a page until it is dropped.
struct Browser {
    _processes: Group,
    _profile: Directory,
}

impl Browser {
    fn show(url: &str) -> Option<Browser> {
        let mut command = find("chromium-headless-shell")?;
        let profile = Directory::new();
        command.arg(format!("--user-data-dir={}", profile.path().display()));
        command.args(FLAGS).arg(url);
        Some(Browser {
            _processes: Group::start(command),
            _profile: profile,
        })
    }
}

fn edge(page: &Page, carriage: Carriage) -> Rig {
    let [program, _] = crate::PROGRAMS;
    // It does not know Ed25519.
    let config = config(carriage)
        .replace("edge.pem", "wild.pem")
        .replace("edge.key", "wild.key");
    let origins = format!("listener.origins = [{:?}]\n", page.origin());
    Rig::start(program, &format!("{config}{origins}"))
}

#[test]
fn a_page_carries_every_packet() {
    for (carriage, scheme) in [(Carriage::WebSocket, "ws"), (Carriage::WebSocketTls, "wss")] {
        let page = Page::serve();
        let mut rig = edge(&page, carriage);
        let url = page.url(&format!("{scheme}://{}/", rig.address()));
        let Some(browser) = Browser::show(&url) else {
            return;
        };
        let door = page.shim();
        use_doors(&mut rig, door, door);
        drop(browser);
        rig.stop();
    }
}

#[test]
fn a_page_of_another_origin_is_refused() {
    let (page, other) = (Page::serve(), Page::serve());
    let rig = edge(&page, Carriage::WebSocket);
    let edge = format!("ws://{}/", rig.address());
    let Some(foreign) = Browser::show(&other.url(&edge)) else {
        return;
    };
    // It could be told why in no other way.
    assert_eq!(other.connect(), "closed 1006");
    drop(foreign);
    let Some(own) = Browser::show(&page.url(&edge)) else {
        return;
    };
    assert_eq!(page.connect(), "open voltlane.v2 none");
    drop(own);
    rig.stop();
}

/// Watches the edge. `None`: as many as may do so already.
fn watch(address: SocketAddr) -> Option<BufReader<TcpStream>> {
    let mut stream = TcpStream::connect(address).expect("it listens");
    let request = format!("GET /events HTTP/1.1\r\nHost: {address}\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("it is taken");
    let (mut stream, mut line) = (BufReader::new(stream), String::new());
    stream.read_line(&mut line).expect("an answer");
    line.starts_with("HTTP/1.1 200 ").then_some(stream)
}

/// Its script runs under the policy of the page, and asks for the events.
#[test]
fn the_status_page_watches_the_edge() {
    for program in crate::PROGRAMS {
        let rig = Rig::start(program, "metrics.address = \"127.0.0.1:0\"\n");
        let address = rig.edge.metrics_address();
        let others: Vec<_> = (0..7).map(|_| watch(address)).collect();
        assert!(others.iter().all(Option::is_some));
        let Some(browser) = Browser::show(&format!("http://{address}/")) else {
            return;
        };
        let until = Instant::now() + PATIENCE;
        // The eighth place is free, until the page has it. Most of the time it must be, so the tries have pauses.
        while watch(address).is_some() {
            assert!(Instant::now() < until, "the page does not watch");
            thread::sleep(Duration::from_millis(250));
        }
        drop((browser, others));
        rig.stop();
    }
}

/// axe finds nothing in it, in both schemes and at both widths, and it asks nobody else. With `VL_PICTURES=FOLDER` it leaves pictures there.
#[test]
fn the_status_page_can_be_used_by_everybody() {
    let [program, _] = crate::PROGRAMS;
    let (Some(chromium), Some(mut node)) = (find("chromium-headless-shell"), node("axe-core"))
    else {
        return;
    };
    let mut rig = Rig::start(program, "metrics.address = \"127.0.0.1:0\"\n");
    let mut clients: Vec<_> = (0..5).map(|_| rig.join()).collect();
    for (seed, client) in (0..).zip(&mut clients) {
        rig.round_trip(client, &bytes_of(seed, 1_000));
    }
    let profile = Directory::new();
    node.arg(script("status.cjs"))
        .arg(chromium.get_program())
        .arg(profile.path())
        .arg(format!("http://{}/", rig.edge.metrics_address()))
        .arg(std::env::var_os("VL_PICTURES").unwrap_or_default())
        .args(FLAGS);
    let finished = Process::start(node).end();
    assert_eq!(finished.code, Some(0), "{finished:?}");
    let lines = finished.stdout.lines().map(serde_json::from_str::<Value>);
    let lines: Vec<_> = lines.map(|line| line.expect("JSON")).collect();
    let [views @ .., asked, without_language] = &lines[..] else {
        panic!("{finished:?}")
    };
    assert_eq!(views.len(), 4, "{views:?}");
    let backs: BTreeSet<_> = views.iter().map(|view| view["back"].to_string()).collect();
    assert_eq!(backs.len(), 2, "light and dark: {views:?}");
    for view in views {
        assert_eq!(view["violations"], json!([]), "{view}");
        // A page on which nothing could be checked has no violation either.
        assert!(view["passed"].as_u64() > Some(15), "{view}");
        let shows = |name: &str| view[name].as_str().unwrap_or_default().to_owned();
        assert!(shows("config").starts_with("configuration read "), "{view}");
        assert!(!["", "-"].contains(&&*shows("turns")), "{view}");
        assert_eq!(
            view["wide"], view["width"],
            "no scrolling to the side: {view}"
        );
    }
    assert_eq!(asked["others"], json!([]), "{asked}");
    assert!(asked["asked"].as_u64() >= Some(2), "{asked}");
    let found = without_language.as_array().expect("a list");
    for rule in ["html-has-lang", "color-contrast"] {
        assert!(found.contains(&json!(rule)), "{rule}: {found:?}");
    }
    rig.stop();
}
