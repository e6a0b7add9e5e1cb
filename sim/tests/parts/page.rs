//! The page that shows a run.

use sim::engine::run_traced;
use sim::page::render;
use sim::plan::generate;

#[test]
fn a_page_shows_every_lane_and_is_whole() {
    let plan = generate(3);
    let page = render(&plan, &run_traced(&plan));
    assert!(page.starts_with("<!doctype html>") && page.ends_with("</html>"));
    assert!(page.contains(" data-of=0>client 0</b>") && page.contains(">backend</b>"));
    assert_eq!(page.matches("<div").count(), page.matches("</div>").count());
    for kind in ["packet", "connection", "fault", "time", "rule"] {
        assert!(page.contains(&format!("<li><span class={kind}>")), "{kind}");
    }
    assert!(!page.contains("http"), "a page that needs nothing else");
}
