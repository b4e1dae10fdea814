//! The simulated disk. (skeleton)
