//! The one binary.
mod config;
fn main() {
    println!("{:?}", config::load(std::path::Path::new("greenroom.toml")).map(|c| c.to_string()));
    let _ = config::parse("x", config::DEMO);
}
