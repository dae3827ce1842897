module weft/e2e/kind/pause

go 1.25.0

tool weft/e2e/kind/pause
