"""The README, the pages of docs/ and the models' cards, as programs: their blocks are run."""
