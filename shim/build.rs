//! Orders the functions in the release binary.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=../hack/order.ld");
    println!("cargo::rerun-if-changed=../hack/unwind.ld");
    let release = std::env::var("PROFILE").is_ok_and(|profile| profile == "release");
    if release && std::env::var("CARGO_CFG_TARGET_ARCH").is_ok_and(|arch| arch == "x86_64") {
        let own = std::env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
        // The functions of the library that run for a container are side by side in the file, as in coracle's (hack/order).
        println!("cargo::rustc-link-arg-bins=-Wl,-T,{own}/../hack/order.ld");
        // GNU ld, which every gcc has: lld cannot drop the unwind tables of some objects.
        println!("cargo::rustc-link-arg-bins=-fuse-ld=bfd");
        println!("cargo::rustc-link-arg-bins=-Wl,-T,{own}/../hack/unwind.ld");
    }
}
