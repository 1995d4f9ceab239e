"""The usual mistakes in the exercises of chapter 06."""
