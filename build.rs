//! Writes the run path of libtorch into every binary, so that `target/release/mixmatch` runs without
//! any environment variable, and refuses to build against another libtorch than the pinned one
//! (torch-sys checks no version when `LIBTORCH` is set).

use std::path::{Path, PathBuf};

/// The libtorch that `tch 0.24` was generated for and that `scripts/libtorch.sh` installs.
const LIBTORCH_VERSION: &str = "2.11.0";

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=migrations");
    println!("cargo:rerun-if-env-changed=LIBTORCH");

    let lib = std::env::var("DEP_TCH_LIBTORCH_LIB").map(PathBuf::from).unwrap_or_else(|_| {
        panic!("torch-sys did not say where libtorch is; run scripts/libtorch.sh, then build again")
    });
    check_version(&lib);
    build_shim(&lib);
    // Where it was built against, then beside an installed binary (/opt/mixmatch/bin → ../libtorch).
    println!("cargo:rustc-link-arg=-Wl,-rpath,{}", lib.display());
    println!("cargo:rustc-link-arg=-Wl,-rpath,$ORIGIN/../libtorch/torch/lib");
}

/// Compiles the libtorch calls that tch does not bind, against the same headers.
fn build_shim(lib: &Path) {
    println!("cargo:rerun-if-changed=native");
    let include = lib.join("../include");
    cc::Build::new()
        .cpp(true)
        .std("c++17")
        .opt_level(2)
        .warnings(false)
        .include(&include)
        .include(include.join("torch/csrc/api/include"))
        .define("_GLIBCXX_USE_CXX11_ABI", "1")
        .flag("-fopenmp")
        .file("native/shim.cpp")
        .file("native/conv.cpp")
        .file("native/winograd.cpp")
        .file("native/strided.cpp")
        .file("native/processor.cpp")
        .file("native/norm_passes.cpp")
        .file("native/norm_act.cpp")
        .file("native/norm_conv.cpp")
        .file("native/packed_conv.cpp")
        .file("native/int8_conv.cpp")
        .file("native/graph.cpp")
        .compile("mixmatch_shim");
    build_kernels();
    // libtorch's own OpenMP, by its very name: a second one in the process would have threads of its own.
    println!("cargo:rustc-link-search=native={}", lib.display());
    println!("cargo:rustc-link-arg=-l:libgomp.so.1");
}

/// The loops over activations, once for each instruction set, and those of our own convolutions, for AVX2 and more, each with the one
/// number format in which it is the fastest: which one runs, and whether, is decided at run time.
fn build_kernels() {
    // The level is what the source holds the flags against: those of CXXFLAGS come after these.
    let versions: [(&str, &str, &[&str]); 4] = [
        ("v1", "1", &["-march=x86-64"]),
        ("v3", "3", &["-march=x86-64-v3"]),
        ("v4", "4", &["-march=x86-64-v4"]),
        ("v4_bf16", "5", &["-march=x86-64-v4", "-mavx512bf16"]),
    ];
    let loops = |level: &str, flags: &[&str]| {
        let mut build = cc::Build::new();
        build.cpp(true).std("c++17").opt_level(3).flags(flags).flag_if_supported("-mprefer-vector-width=512");
        // Vectors wider than the registers are passed in inlined functions alone.
        build.flag("-Wno-psabi").define("KERNEL_LEVEL", level);
        build
    };
    for (version, level, flags) in versions {
        loops(level, flags)
            .define("NORM_ACT_TABLE", Some(format!("norm_act_{version}").as_str()))
            .file("native/norm_act_kernels.cpp")
            .compile(&format!("mixmatch_kernels_{version}"));
    }
    for ((version, level, flags), number) in versions[1..].iter().zip(["float", "float", "Bf16"]) {
        // Large tiles are for float32 alone (winograd.cpp).
        for tile in if number == "float" { &["2", "4"][..] } else { &["2"] } {
            loops(level, flags)
                .define("WINOGRAD_TABLE", Some(format!("winograd{tile}_{version}").as_str()))
                .define("WINOGRAD_NUMBER", number)
                .define("WINOGRAD_TILE", *tile)
                .file("native/winograd_kernels.cpp")
                .compile(&format!("mixmatch_winograd{tile}_{version}"));
        }
        // With AVX2 alone these are no faster than oneDNN's.
        if *version != "v3" {
            loops(level, flags)
                .define("STRIDED_TABLE", Some(format!("strided_{version}").as_str()))
                .define("STRIDED_NUMBER", number)
                .file("native/strided_kernels.cpp")
                .compile(&format!("mixmatch_strided_{version}"));
        }
    }
}

fn check_version(lib: &Path) {
    let header = lib.join("../include/torch/headeronly/version.h");
    let header = if header.exists() { header } else { lib.join("../include/torch/version.h") };
    println!("cargo:rerun-if-changed={}", header.display());
    let text = std::fs::read_to_string(&header).unwrap_or_default();
    let number = |name: &str| {
        text.lines()
            .find_map(|line| line.strip_prefix(&format!("#define TORCH_VERSION_{name} ")))
            .map(|value| value.trim().to_owned())
            .unwrap_or_else(|| "?".to_owned())
    };
    let found = format!("{}.{}.{}", number("MAJOR"), number("MINOR"), number("PATCH"));
    assert!(
        found == LIBTORCH_VERSION,
        "libtorch {LIBTORCH_VERSION} is needed, but {} is {found}; run scripts/libtorch.sh",
        lib.display()
    );
}
