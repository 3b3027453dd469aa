//! Prints the OpenAPI document. `cargo local openapi` writes it to `infra/openapi.json`.

fn main() {
    println!("{:#}", adapters::wire::openapi::document());
}
