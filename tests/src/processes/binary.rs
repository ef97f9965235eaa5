//! Where the built program is. Cargo tells a test only about binaries of its own package, so this one is built on demand.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The program under test: `ANABRANCH_BIN`, or the one that this workspace builds, brought up to date once per test process.
pub fn anabranch() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| match std::env::var_os("ANABRANCH_BIN") {
        Some(path) => PathBuf::from(path),
        None => build(),
    })
}

fn build() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests live in a folder of the workspace");
    let this = std::env::current_exe().expect("a running program has a path");
    // `target/release/deps/processes-0123`: the profile's folder is two above.
    let folder = this.parent().and_then(Path::parent).expect("a test lives in the target folder").to_path_buf();
    let binary = folder.join("anabranch");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let built = Command::new(cargo)
        .args(["build", "--release", "--workspace", "--bin", "anabranch", "--target-dir"])
        .arg(folder.parent().expect("a profile's folder lives in the target folder"))
        .current_dir(manifest)
        .output();
    match built {
        Ok(output) if output.status.success() => binary,
        // Where there is no cargo the program may have been brought along.
        Err(_) if binary.exists() => binary,
        Ok(output) => panic!("cannot build anabranch:\n{}", String::from_utf8_lossy(&output.stderr)),
        Err(error) => panic!("cannot build anabranch: {error}"),
    }
}
