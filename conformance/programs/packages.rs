//! The files of `ops/`, checked by the tools of those who read them.

use std::fs;
use std::path::{Path, PathBuf};

use conformance::Directory;
use conformance::others::find;

/// The greatest exposure that systemd may see in the unit, in tenths. It calls this "OK"; a unit without restrictions has 96.
const EXPOSURE: &str = "15";

fn ops(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../ops")
        .join(file)
}

/// Runs `systemd-analyze` on the unit, with our program in place of the installed one.
fn analyze(unit: &str, arguments: &[&str]) -> Option<(bool, String)> {
    let mut command = find("systemd-analyze")?;
    let directory = Directory::new();
    let path = directory.path().join("voltlane.service");
    fs::write(&path, unit).expect("a unit");
    let output = command.args(arguments).arg(&path).output();
    let output = output.expect("systemd-analyze runs");
    let text = [output.stdout, output.stderr].concat();
    Some((
        output.status.success(),
        String::from_utf8_lossy(&text).into_owned(),
    ))
}

#[test]
fn systemd_takes_the_unit_and_finds_it_hardened() {
    let program = crate::PROGRAMS[0].path().display().to_string();
    let unit = fs::read_to_string(ops("voltlane.service")).expect("the unit");
    let unit = unit.replace("/usr/bin/voltlane", &program);
    assert!(unit.contains(&program));
    let Some((is_right, text)) = analyze(&unit, &["verify", "--man=no"]) else {
        return;
    };
    // Also a key that systemd does not know is a line here, and no failure.
    assert!(is_right && text.is_empty(), "{text}");
    let threshold = format!("--threshold={EXPOSURE}");
    let security = ["security", "--offline=true", "--no-pager", &threshold];
    let (is_hardened, text) = analyze(&unit, &security).expect("it is installed");
    assert!(is_hardened, "{text}");
    // The check can fail.
    let open = unit
        .replace("ProtectSystem=strict\n", "")
        .replace("DynamicUser=yes\n", "");
    let (is_hardened, text) = analyze(&open, &security).expect("it is installed");
    assert!(!is_hardened, "{text}");
}
