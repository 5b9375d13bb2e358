"""`python -m nnunet_rs` is `nnunet-rs`."""

import sys

from nnunet_rs.cli import main

sys.exit(main())
