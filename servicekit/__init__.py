"""The runtime every server of the suite shares; it knows no business words."""
