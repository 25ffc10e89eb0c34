//! Orders the release's text.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=hack/order.ld");
    let release = std::env::var("PROFILE").is_ok_and(|profile| profile == "release");
    if release && std::env::var("CARGO_CFG_TARGET_ARCH").is_ok_and(|arch| arch == "x86_64") {
        let top = std::env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
        // what runs in a container's life lies side by side (hack/order)
        println!("cargo::rustc-link-arg-bins=-Wl,-T,{top}/hack/order.ld");
    }
}
