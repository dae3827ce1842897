//! Compiles weft.v1 and weft.stored.v1 without a protoc on the machine.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut files =
        ["types", "membership", "join", "operator", "agent"].map(|name| format!("weft/v1/{name}.proto")).to_vec();
    files.push("weft/stored/v1/stored.proto".to_owned());
    println!("cargo::rerun-if-changed=weft");
    tonic_prost_build::configure().build_transport(false).compile_fds(protox::compile(files, ["."])?)?;
    Ok(())
}
