-- The sellers by state: auctions, those without any bid, and the dearest bid.
-- tally: nexmark.sellers
SELECT
    p.state,
    count(DISTINCT a.id) AS auctions,
    count(DISTINCT a.id) FILTER (WHERE b.id IS NULL) AS without_bids,
    max(b.price) AS dearest
FROM nexmark.person AS p
JOIN nexmark.auction AS a ON a.seller = p.id
LEFT JOIN nexmark.bid AS b ON b.auction = a.id
GROUP BY p.state
