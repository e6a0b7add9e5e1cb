//! Chromium, without a window. (SPEC 16.2)

use conformance::others::{Group, find};
use conformance::page::Page;
use conformance::shim::Carriage;
use conformance::{Directory, Rig};

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
    for (carriage, scheme) in [(Carriage::Ws, "ws"), (Carriage::Wss, "wss")] {
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
    let rig = edge(&page, Carriage::Ws);
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
