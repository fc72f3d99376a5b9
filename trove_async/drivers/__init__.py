"""The backends. Each module is the only home of its SDK and knows no other driver."""
