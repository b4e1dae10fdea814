//! Figures, not checks: `cargo test --release table_speed -- --ignored --nocapture`.
