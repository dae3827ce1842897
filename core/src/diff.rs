//! From what is there to what should be, as operations in an order the kernel accepts.
