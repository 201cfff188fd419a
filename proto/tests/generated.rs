//! The generated code in `src/gen` is checked in, so that a build needs no code generator. This test makes it anew from the
//! schemas and compares; `HALITE_REGENERATE=1 cargo test -p halite-proto` writes it.

use std::path::Path;

#[test]
fn generated_code_matches_the_schemas() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let files = ["client", "peer", "log"].map(|name| format!("halite/v1/{name}.proto"));
    let descriptors = protox::compile(files, [root]).expect("schemas compile");
    let out = tempfile::tempdir().expect("temporary directory");
    tonic_prost_build::configure()
        .bytes(".")
        .emit_rerun_if_changed(false)
        .out_dir(out.path())
        .compile_fds(descriptors)
        .expect("code generation");

    let fresh = std::fs::read_to_string(out.path().join("halite.v1.rs")).expect("generated file");
    let checked_in = root.join("src/gen/halite.v1.rs");
    if std::env::var_os("HALITE_REGENERATE").is_some() {
        std::fs::write(&checked_in, &fresh).expect("write generated file");
    }
    let current = std::fs::read_to_string(&checked_in).unwrap_or_default();
    assert!(
        current == fresh,
        "src/gen/halite.v1.rs is stale: run HALITE_REGENERATE=1 cargo test -p halite-proto"
    );
}
