-- Who sells items of category 10 in three states.
-- tally: nexmark.q03
SELECT p.name, p.city, p.state, a.id
FROM nexmark.auction AS a
JOIN nexmark.person AS p ON p.id = a.seller
WHERE a.category = 10 AND p.state IN ('OR', 'ID', 'CA')
