//! Orders the functions in the release binary.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=hack/order.ld");
    println!("cargo::rerun-if-changed=hack/unwind.ld");
    println!("cargo::rerun-if-env-changed=ORDER");
    let release = std::env::var("PROFILE").is_ok_and(|profile| profile == "release");
    if release && std::env::var("CARGO_CFG_TARGET_ARCH").is_ok_and(|arch| arch == "x86_64") {
        let top = std::env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
        // The functions that run for a container are side by side in the file (hack/order).
        println!("cargo::rustc-link-arg-bins=-Wl,-T,{top}/hack/order.ld");
        // hack/order reads the map of lld
        if std::env::var_os("ORDER").is_none() {
            // GNU ld, which every gcc has: lld cannot drop the unwind tables of some objects.
            println!("cargo::rustc-link-arg-bins=-fuse-ld=bfd");
            println!("cargo::rustc-link-arg-bins=-Wl,-T,{top}/hack/unwind.ld");
        }
    }
}
