//! Golden bytes: the code writes what `docs/format-table.md` says. A change here is a new format.
