-- Bids for items of category 10, with the auction.
-- tally: nexmark.q20
SELECT
    b.id, b.auction, b.bidder, b.price, b.channel, b.date_time,
    a.item_name, a.initial_bid, a.reserve, a.expires, a.seller
FROM nexmark.bid AS b
JOIN nexmark.auction AS a ON a.id = b.auction
WHERE a.category = 10
