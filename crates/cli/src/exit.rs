//! How a command ends: the one table of exit codes.
//!
//! Invariants: every end has one code, and the help, the man page and `docs/operations.md` are held to this
//! table by tests; a code never changes its meaning.

/// How a command ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// All is well. A torn or unwitnessed tail alone is noted and clean, unless `--strict`.
    Clean = 0,
    /// An operation or I/O failed.
    Failed = 1,
    /// The command was used wrongly.
    Usage = 2,
    /// No such key, keyspace or file; or two states differ.
    NotFound = 3,
    /// Damage, but every commit that was promised can still be read.
    Damage = 4,
    /// Damage, and commits that were promised are gone; or nobody can tell.
    Loss = 5,
    /// Repaired or salvaged, nothing lost.
    Repaired = 6,
    /// Repaired or salvaged; the receipt says what was lost.
    RepairedWithLoss = 7,
    /// There is no database at the path.
    NoDatabase = 10,
    /// Another process owns the database.
    Locked = 11,
    /// The database has a format that this version does not know.
    Unsupported = 12,
    /// The command destroys something and was not confirmed.
    Unconfirmed = 20,
    /// The time limit came before the end of the work.
    TimeLimit = 124,
    /// Interrupted by the user.
    Interrupted = 130,
}

impl Exit {
    /// All of them, by code.
    pub const ALL: [Exit; 14] = [
        Exit::Clean,
        Exit::Failed,
        Exit::Usage,
        Exit::NotFound,
        Exit::Damage,
        Exit::Loss,
        Exit::Repaired,
        Exit::RepairedWithLoss,
        Exit::NoDatabase,
        Exit::Locked,
        Exit::Unsupported,
        Exit::Unconfirmed,
        Exit::TimeLimit,
        Exit::Interrupted,
    ];

    /// The end with that code; one that is not in the table is a failure.
    pub fn of(code: u8) -> Exit {
        Exit::ALL.into_iter().find(|exit| exit.code() == code).unwrap_or(Exit::Failed)
    }

    /// The number that the process ends with.
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// One word, for JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Exit::Clean => "clean",
            Exit::Failed => "failed",
            Exit::Usage => "usage",
            Exit::NotFound => "not_found",
            Exit::Damage => "damage",
            Exit::Loss => "loss",
            Exit::Repaired => "repaired",
            Exit::RepairedWithLoss => "repaired_with_loss",
            Exit::NoDatabase => "no_database",
            Exit::Locked => "locked",
            Exit::Unsupported => "unsupported",
            Exit::Unconfirmed => "unconfirmed",
            Exit::TimeLimit => "time_limit",
            Exit::Interrupted => "interrupted",
        }
    }

    /// What it means, in at most 70 characters.
    pub const fn meaning(self) -> &'static str {
        match self {
            Exit::Clean => "clean, done (a torn tail alone is clean; --strict makes it 4)",
            Exit::Failed => "I/O or the operation failed",
            Exit::Usage => "wrong usage",
            Exit::NotFound => "not found, or two states differ",
            Exit::Damage => "damage, no committed data lost",
            Exit::Loss => "damage, committed data lost or not known to be safe",
            Exit::Repaired => "repaired or salvaged without loss",
            Exit::RepairedWithLoss => "repaired or salvaged with loss",
            Exit::NoDatabase => "there is no database",
            Exit::Locked => "the database is in use (the process is named)",
            Exit::Unsupported => "format not supported by this version",
            Exit::Unconfirmed => "confirmation needed (--yes)",
            Exit::TimeLimit => "the time limit came first",
            Exit::Interrupted => "interrupted",
        }
    }

    /// The table as text, one line each.
    pub fn table() -> String {
        let rows = Exit::ALL.map(|exit| format!("  {:>3}  {}", exit.code(), exit.meaning()));
        rows.join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::Exit;

    #[test]
    fn codes_ascend_and_lines_are_short() {
        assert!(Exit::ALL.is_sorted_by_key(|exit| exit.code()));
        for exit in Exit::ALL {
            assert!(exit.meaning().len() <= 70);
        }
        let codes = Exit::ALL.map(Exit::code);
        assert_eq!(codes, [0, 1, 2, 3, 4, 5, 6, 7, 10, 11, 12, 20, 124, 130]);
    }

    /// `docs/operations.md` says the same.
    #[test]
    fn the_documentation_has_every_code() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/operations.md");
        let text = std::fs::read_to_string(path).unwrap();
        for exit in Exit::ALL {
            let row = format!("| {} | {} |", exit.code(), exit.meaning());
            assert!(text.contains(&row), "docs/operations.md lacks {row:?}");
        }
    }
}
