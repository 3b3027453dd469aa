//! Migrations are embedded: without this, a new file would silently be left out.

fn main() {
    println!("cargo:rerun-if-changed=../../migrations");
}
