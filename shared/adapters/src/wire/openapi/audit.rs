//! The audit log.

use super::schema::{Schema, required};
use super::{Answer, Operation, page_of};

/// `GET /v1/audit`.
pub(super) fn list() -> Operation {
    Operation::new(
        "List what was changed, the newest first",
        Answer::ok("A page of changes.", page_of("changes", Schema::named("Change"))),
    )
    .describe("A search by `table`, `operation`, `actor` or `key` looks at so many changes for a page: it may be short or empty and have another behind it, for as long as there is `page_info.after`.")
}

/// `GET /v1/audit/verification`.
pub(super) fn verify() -> Operation {
    Operation::new("Verify the chain of the audit log", Answer::ok("What came of it.", Schema::named("ChainCheck")))
        .describe("A long chain is verified in steps: ask again from `next_block` until there is none. To keep `head` is to be able to prove every later change of what lies before it.")
}

/// The components.
pub(super) fn schemas() -> Vec<(&'static str, Schema)> {
    let change = Schema::object([
        required("id", Schema::ordinal()),
        required("changed_at", Schema::named("Time")),
        required("actor", Schema::text().describe("The subject of the token, or who else.")),
        required("table", Schema::text()),
        required("operation", Schema::one_of(["insert", "update", "delete"])),
        required("key", Schema::opaque().describe("The row's key, by column.")),
        required("changes", Schema::opaque().describe("By column: `from` what, `to` what.")),
    ]);
    let head =
        Schema::object([required("block", Schema::ordinal()), required("hash", Schema::text().pattern("[0-9a-f]*"))]);
    let broken = Schema::object([required("block", Schema::ordinal()), required("reason", Schema::text())]);
    let check = Schema::object([
        required("is_intact", Schema::flag()),
        required("block_count", Schema::count().describe("Blocks that verified.")),
        required("row_count", Schema::count().describe("Rows in them.")),
        required("head", head.or_null().describe("The last block that verified.")),
        required("next_block", Schema::ordinal().or_null().describe("Where to go on.")),
        required("broken", broken.or_null().describe("The first block that does not verify, and why.")),
        required("unsealed_count", Schema::count().or_null().describe("Rows that are in no block yet.")),
        required(
            "dropped_to_block",
            Schema::ordinal()
                .or_null()
                .describe("Up to here nobody had to keep the rows any more; the blocks are left."),
        ),
    ]);
    vec![("Change", change), ("ChainCheck", check)]
}
