"""RxRx1, RxRx2 and RxRx3: their tables and their folders, before they are joined."""
